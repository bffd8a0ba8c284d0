"""Which name was probably meant."""

from collections.abc import Iterable


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The one of `names` that is written most like `word`, None if none is."""
    from difflib import get_close_matches  # only whoever mistyped pays for it

    return next(iter(get_close_matches(word, list(names), n=1)), None)
