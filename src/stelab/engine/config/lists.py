"""Several names in one text: ``study=a,b``."""


def split_commas(text: str | None) -> list[str]:
    """Split `text` at commas and strip the words; None gives an empty list."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]
