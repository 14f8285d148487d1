"""Numbers with their nouns, for messages and reports."""


def count(number: int, thing: str, things: str = "") -> str:
    """Return a number with its noun: ``1 case``, ``2 cases``."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"
