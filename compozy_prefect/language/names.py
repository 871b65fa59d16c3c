"""A name that nobody knows → the known one that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

_MAX_KNOWN = 2000  # names looked at, so that a huge project cannot make a message slow
_MAX_LENGTH = 80


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name with the fewest typing mistakes, if they are few for its length.

    A mistake is a letter too many, missing, wrong, or swapped with its neighbour; capitals and
    the choice of `-`, `_` or a space count for nothing. The first of equally near names wins.
    """
    ranked = _ranked(name, known)
    return ranked[0] if ranked else None


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


def _ranked(name: str, known: Iterable[str]) -> list[str]:
    wanted = _folded(name)
    if not wanted or len(wanted) > _MAX_LENGTH:
        return []
    best: list[tuple[int, int, str]] = []
    for order, candidate in enumerate(islice(known, _MAX_KNOWN)):
        folded = _folded(candidate)
        if not folded or len(folded) > _MAX_LENGTH:
            continue
        cutoff = max(len(wanted), len(folded)) // 3 if len(wanted) > 2 else 1
        distance = _distance(wanted, folded, max(cutoff, 1))
        # Two of two letters changed is another word, not a mistake.
        if distance is not None and distance < min(len(wanted), len(folded)):
            best.append((distance, order, candidate))
    return [candidate for _, _, candidate in sorted(best)]


def _folded(name: str) -> str:
    return name.strip().casefold().replace("-", "_").replace(" ", "_")


def _distance(a: str, b: str, cutoff: int) -> int | None:
    """Optimal string alignment distance, or None when it exceeds the cutoff."""
    if abs(len(a) - len(b)) > cutoff:
        return None
    before: list[int] = []
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > cutoff:
            return None
        before, above = above, row
    return above[-1] if above[-1] <= cutoff else None
