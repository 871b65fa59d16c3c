"""Nouns of a kind, wherever a project holds them, and what of them stands in the file.

What is faulty is missing in a noun and was reported; it is given all the same, and the passes ask
the node where they look for what is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.diagnostics import Span
from compozy_prefect.language import misfits
from compozy_prefect.language.models.base import Noun
from compozy_prefect.language.nodes import Node, Scalar

N = TypeVar("N", bound=Noun)

_DIRECTIVES = ("$ref", "$use", "$merge")


def nouns(project: Project, *kinds: type[N]) -> Iterator[N]:
    """Every noun of some kinds: of the project, its workflows, what autoload found, and in those.

    One that several places refer to comes once. One with a directive that could not be resolved,
    which was reported and may hold anything, is left out.
    """
    loaded = project.loaded
    waiting: list[Noun] = [] if loaded.project is None else [loaded.project]
    waiting += [workflow.noun for workflow in loaded.workflows]
    waiting += [noun for listed in loaded.components.values() for noun in listed]
    seen: set[tuple[int, type[Noun]]] = set()
    while waiting:
        noun = waiting.pop()
        key = id(noun.node), type(noun)
        if key in seen:
            continue
        seen.add(key)
        if isinstance(noun, kinds) and is_resolved(noun):
            yield noun
        for value in noun.__dict__.values():
            if isinstance(value, Noun):
                waiting.append(value)
            elif type(value) is list:
                waiting += [item for item in value if isinstance(item, Noun)]
            elif type(value) is dict:  # of nouns, such as routes; data is a `LocatedDict`
                waiting += [item for item in value.values() if isinstance(item, Noun)]


def called(noun: Noun, word: str) -> str:
    """``the tool `x` ``, or ``the tool`` where the file gives it no id."""
    given, id_ = noun.node.get("id"), getattr(noun, "id", None)
    return f"the {word} `{id_}`" if given is not None and given.data() == id_ else f"the {word}"


def is_resolved(noun: Noun) -> bool:
    """Whether all that the noun says is known."""
    return not any(directive in noun.node.entries for directive in _DIRECTIVES)


def is_given(noun: Noun, name: str) -> bool:
    """Whether the file says something under a key, be it faulty."""
    return not is_blank(noun.node.get(name))


def is_blank(node: Node | None) -> bool:
    """Whether nothing stands there, or nothing but white space."""
    if not isinstance(node, Scalar):
        return node is None
    return node.value is None or (isinstance(node.value, str) and not node.value.strip())


def is_template(text: str) -> bool:
    """Whether a text is only known when it runs."""
    return "{{" in text


def place(noun: Noun, *names: str) -> Span:
    """Where the first of the keys that is there has its value; else where the noun begins."""
    for name in names:
        found = noun.node.get(name)
        if found is not None:
            return misfits.head(found)
    return misfits.head(noun.node)
