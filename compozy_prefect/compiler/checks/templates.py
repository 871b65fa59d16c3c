"""Every template parsed, and every name that it reads looked up (language.md §11.2, §14 row 36)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compozy_prefect.compiler.checks.nouns import nouns
from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.places import ANYWHERE, RESOURCES, Place, of_resource, of_tool, places
from compozy_prefect.compiler.variables import TASK_FIELDS, VARIABLES, WORKFLOW_FIELDS
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import Template, parse, parse_condition
from compozy_prefect.expressions.reads import Read, Use
from compozy_prefect.language.names import nearest, suggest

_FREQUENT = {"tasks", "workflow", "input", "output"}

# Where a variable that is missing here can be seen, as a hint.
_ELSEWHERE = {
    "output": "`.output` is the task's own result and stands in its `outputs` only",
    "with": "`.with` exists once the task's `with` has been rendered: in `outputs` and prompts",
    "item": "`.item` exists inside of a collection",
    "index": "`.index` exists inside of a collection",
    "signal": "`.signal` exists in the processor and the condition of a `wait` task",
    "parent": "`.parent` exists inside of a container",
    "mcps": "`.mcps` exists in prompts and instructions",
    "memory": "`.memory` exists in prompts, instructions and the keys of memories",
    "processor": "`.processor` exists in the condition of a `wait` task",
    "children": "`.children` exists in the `outputs` of a container",
    "now": "`now` is a function: write it without a dot",
}


def templates(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        judge = _Judge(checked)
        for place in places(checked.scope):
            yield from judge.place(place)
        for tool in checked.scope.tools_used:
            for place in of_tool(tool):
                yield from judge.place(place)
    for noun in nouns(project, *RESOURCES) if project.workflows else ():
        for place in of_resource(noun):
            yield from _Judge(project.workflows[0]).place(place)


class _Judge:
    def __init__(self, checked: Checked) -> None:
        self._scope = checked.scope
        self._tree = checked.tree

    def place(self, place: Place) -> Iterator[Diagnostic]:
        text = place.node.value
        assert isinstance(text, str)
        if "{%" in text and "%}" in text:
            start = text.index("{%")
            yield warning(
                "CZ409",
                "`{% … %}` is plain text in this language",
                place.node.span_of(start, text.index("%}") + 2),
                "write `{{ if … }} … {{ end }}`",
            )
        if "{{" not in text and not place.condition:
            return
        try:
            template: Template = parse_condition(text) if place.condition else parse(text)
            template.compile()
        except TemplateError as fault:
            span = place.node.span_of(fault.start, fault.end)
            yield error(fault.code, fault.message, span, fault.hint)
            return
        for read in template.reads:
            yield from self._read(read, place)
        for use in template.uses:
            yield from self._use(use, place)

    def _read(self, read: Read, place: Place) -> Iterator[Diagnostic]:
        if read.segments[0] == "blocks" and read.segments[1:2] in ((), (None,)):
            message = "which block is read must be written out"
            hint = 'as `.blocks.NAME.FIELD`, or `index .blocks "NAME" "FIELD"`'
            yield error("CZ402", message, place.span(read, 0), hint)
            return
        root = read.segments[0]
        if root not in place.sight:
            yield self._unknown_variable(read, place, str(root), place.sight)
        elif root == "tasks" and len(read.segments) > 1:
            yield from self._task(read, place)
        elif root == "workflow" and len(read.segments) > 1:
            yield from self._field(read, place, 1, WORKFLOW_FIELDS, "workflow")

    def _unknown_variable(
        self, read: Read, place: Place, name: str, visible: frozenset[str]
    ) -> Diagnostic:
        # Of two equally near names the one that is wanted more often.
        near = nearest(name, sorted(visible, key=lambda root: (root not in _FREQUENT, root)))
        hint = _ELSEWHERE.get(name) or (
            f"did you mean `.{near}`?"
            if near
            else "there are " + ", ".join(f"`.{root}`" for root in sorted(visible))
        )
        known_elsewhere = name in ANYWHERE or any(name in v for v in VARIABLES.values())
        what = "is not known here" if known_elsewhere else "does not exist"
        return error("CZ402", f"the variable `.{name}` {what}", place.span(read, 0), hint)

    def _field(
        self, read: Read, place: Place, at: int, known: frozenset[str], what: str
    ) -> Iterator[Diagnostic]:
        name = read.segments[at]
        if name is not None and name not in known:
            near = nearest(str(name), sorted(known))
            hint = f"did you mean `{near}`?" if near else f"it has {', '.join(sorted(known))}"
            span = place.span(read, at)
            yield error("CZ402", f"`{what}` has no field `{name}`", span, hint)

    def _task(self, read: Read, place: Place) -> Iterator[Diagnostic]:
        name = read.segments[1]
        if name is None:
            return
        name = str(name)
        if any(self._tree.find(name, at) for at in place.readers or (None,)):
            if len(read.segments) > 2:
                yield from self._field(read, place, 2, TASK_FIELDS, f"tasks.{name}")
        elif not self._scope.is_broken("tasks", name):
            hint = suggest(name, self._tree.ids, what="there are")
            yield error("CZ210", f"unknown task: `{name}`", place.span(read, 1), hint)

    def _use(self, use: Use, place: Place) -> Iterator[Diagnostic]:
        if use.name != "validateSchema" or not use.texts:
            return
        name = use.texts[-1]
        if name not in self._scope.schemas and not self._scope.is_broken("schemas", name):
            text = str(place.node.value)
            given = re.compile("(?<=['\"`])" + re.escape(name)).search(text, use.start, use.end)
            span = place.node.span_of(*(given.span() if given else (use.start, use.end)))
            hint = suggest(name, self._scope.schemas, what="there are")
            yield error(
                "CZ215", f"unknown schema: `{name}`", span, hint or "there is no schema at all"
            )
