"""Symbolic links out of the folders of a tool, where no kernel keeps them from being followed."""

from __future__ import annotations

import os
from collections.abc import Sequence


def outward(roots: Sequence[str]) -> str | None:
    """The first link below one of `roots`, real paths, that leads out of all of them.

    The engine follows links without asking; tools cannot make any.
    """
    for root in roots:
        for folder, folders, files in os.walk(root):
            for name in (*folders, *files):
                path = os.path.join(folder, name)
                if os.path.islink(path) and not _is_inside(os.path.realpath(path), roots):
                    return path
    return None


def _is_inside(path: str, roots: Sequence[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in roots)
