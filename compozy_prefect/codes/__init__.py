"""The pages of `compozy explain`: one markdown file a diagnostic code.

A page may show a project that gives the code (a block ```` ```yaml bad ````) and one that does not
(```` ```yaml good ````); the tests run both.
"""

from __future__ import annotations

from importlib.resources import files


def known() -> list[str]:
    """All codes, sorted."""
    names = (entry.name for entry in files(__name__).iterdir())
    return sorted(name.removesuffix(".md") for name in names if name.endswith(".md"))


def page(code: str) -> str | None:
    """The page of a code as markdown, or None when there is no such code."""
    return files(__name__).joinpath(f"{code}.md").read_text("utf-8") if code in known() else None
