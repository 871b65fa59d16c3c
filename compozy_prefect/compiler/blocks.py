"""A workflow of the plan → the blocks of Prefect that its templates read, and where.

`{{ .blocks.NAME.FIELD }}` stands wherever `.env` may. The names have to be written out: they are
known before the run, which loads each block once, and none when no template reads one.
"""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.canonical import to_json
from compozy_prefect.compiler.plan import WorkflowPlan, pointer
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse, parse_condition
from compozy_prefect.language.texts import texts

ROOT = "blocks"
_CONDITIONS = ("condition", "filter")  # fields that may be an expression without braces


def blocks_of(workflow: WorkflowPlan) -> dict[str, dict[str, str]]:
    """The fields that are read of each block, by its name, and the pointer of the first template.

    The field is empty where the whole block is read, or where one that is missing reads as null.
    """
    found: dict[str, dict[str, str]] = {}
    for path, text in texts(to_json(workflow)):
        for name, field in _read(text, path[-1] in _CONDITIONS) if ROOT in text else ():
            at = pointer("workflows", workflow.id, *path)
            found.setdefault(name, {}).setdefault(field, at)
    return found


def _read(text: str, condition: bool) -> Iterator[tuple[str, str]]:
    try:
        template = parse_condition(text) if condition else parse(text)
    except TemplateError:
        return  # a text in words; a template has been parsed before
    for read in template.reads:
        root, name, field = (*read.segments, None, None)[:3]
        if root == ROOT and name is not None:
            yield str(name), "" if field is None or read.guarded else str(field)
