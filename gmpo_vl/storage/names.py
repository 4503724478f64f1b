"""What somebody may have meant by a name that nobody knows."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most like this one, first of all one of the same letters in another order; None
    where none is. Case does not count."""
    names = {one.casefold(): one for one in known}
    asked = name.casefold()
    close = get_close_matches(asked, names, n=max(1, len(names)), cutoff=cutoff)
    swapped = [one for one in close if sorted(one) == sorted(asked)]
    return names[(swapped or close)[0]] if close else None


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a message: `; did you mean X?`, or nothing."""
    close = closest(name, known, cutoff)
    return f"; did you mean {close}?" if close else ""


def nearest_or_all(name: str, known: Collection[str]) -> str:
    """`; did you mean X?`, or all the names."""
    return nearest(name, known, cutoff=0.5) or f"; known: {', '.join(sorted(known))}"
