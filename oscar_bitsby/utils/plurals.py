"""Numbers with their nouns, in the English output of commands."""


def plural(number: int, one: str, many: str = "") -> str:
    """Return a number and a noun; without ``many``, the plural ends in "s"."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
