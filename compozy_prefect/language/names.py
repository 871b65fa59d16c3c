"""A name that nobody knows → the known one that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

_MAX_KNOWN = 2000  # names looked at, so that a huge project cannot make a message slow
_MAX_LENGTH = 80
_MAX_MISTAKES = 3


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name with the fewest typing mistakes, if they are few for its length.

    A mistake is a letter too many, missing, wrong, or swapped with its neighbour; capitals and
    the choice of `-`, `_` or a space count for nothing. The first of equally near names wins.
    """
    wanted = _folded(name)
    if not wanted or len(wanted) > _MAX_LENGTH:
        return None
    best: str | None = None
    letters = set(wanted)
    limit = min(max(len(wanted) // 3, 1), _MAX_MISTAKES)
    for candidate in islice(known, _MAX_KNOWN):
        folded = _folded(candidate)
        # As many mistakes as letters are another word.
        most = min(limit, len(wanted) - 1, len(folded) - 1)
        if folded == wanted:
            return candidate
        # Each letter that the other has not is a mistake: cheaper to see than the distance.
        alike = most > 0 and len(letters.difference(folded)) <= most
        if alike and len(folded) <= _MAX_LENGTH:
            distance = _distance(wanted, folded, most)
            if distance is not None:
                best, limit = candidate, distance - 1
    return best


def suggest(name: str, known: Iterable[str], *, what: str = "known", limit: int = 5) -> str | None:
    """The hint for an unknown name: the nearest one, or else the list of what there is."""
    names = list(dict.fromkeys(known))
    near = nearest(name, names)
    if near is not None:
        return f'did you mean "{near}"?'
    if not names:
        return None
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{what}: {', '.join(names[:limit])}{more}"


def _folded(name: str) -> str:
    return name.strip().casefold().replace("-", "_").replace(" ", "_")


def _distance(a: str, b: str, most: int) -> int | None:
    """Optimal string alignment distance, or None when it exceeds `most`."""
    if abs(len(a) - len(b)) > most:
        return None
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    a, b = a[start:], b[start:]
    before: list[int] = []
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        # Only cells near the diagonal can be within `most`.
        first, last = max(1, i - most), min(len(b), i + most)
        row = [most + 1] * (len(b) + 1)
        row[0] = i
        for j in range(first, last + 1):
            y = b[j - 1]
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row[j] = cost
        if min(row) > most:
            return None
        before, above = above, row
    return above[-1] if above[-1] <= most else None
