"""A workflow of the plan → the blocks of Prefect that its templates read, and where.

`{{ .blocks.NAME.FIELD }}` stands wherever `.env` may. The names have to be written out: they are
known before the run, which loads each block once, and none when no template reads one.
"""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.canonical import to_json
from compozy_prefect.compiler.plan import Json, WorkflowPlan, pointer
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse, parse_condition

ROOT = "blocks"
_CONDITIONS = ("condition", "filter")  # fields that may be an expression without braces


def blocks_of(workflow: WorkflowPlan) -> dict[str, dict[str, str]]:
    """The fields that are read of each block, by its name, and the pointer of the first template.

    The field is empty where the whole block is read, or where one that is missing reads as null.
    """
    found: dict[str, dict[str, str]] = {}
    for at, text in _texts(to_json(workflow), pointer("workflows", workflow.id)):
        for name, field in _read(text, at.rpartition("/")[2] in _CONDITIONS):
            found.setdefault(name, {}).setdefault(field, at)
    return found


def _texts(value: Json, at: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, at + pointer(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _texts(item, at + pointer(index))
    elif isinstance(value, str) and ROOT in value:
        yield at, value


def _read(text: str, condition: bool) -> Iterator[tuple[str, str]]:
    try:
        template = parse_condition(text) if condition else parse(text)
    except TemplateError:
        return  # a text in words; a template has been parsed before
    for read in template.reads:
        root, name, field = (*read.segments, None, None)[:3]
        if root == ROOT and name is not None:
            yield str(name), "" if field is None or read.guarded else str(field)
