"""Several names in one text: ``study=a,b``."""


def split_commas(text: str | None) -> list[str]:
    """Split at commas; of None or nothing there are none."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]
