"""The report of a comparison as a page: its code, its templates, its style and its script."""
