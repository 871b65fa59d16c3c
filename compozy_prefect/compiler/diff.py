"""Two plans → what the change between them does, in words and as data.

What a step runs with, such as its agent, its tool or its memory, is compared where the plan defines
it, and the steps that use it count as changed. A step that comes after one of these may see other
input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from compozy_prefect.compiler.canonical import canonical, to_json
from compozy_prefect.compiler.contract import input_changes, output_changes
from compozy_prefect.compiler.difference import Change, differences, outcome
from compozy_prefect.compiler.graph import links
from compozy_prefect.compiler.plan import Plan, StepPlan, WorkflowPlan, walk

_DEFINITIONS = {"agents": "agent", "tools": "tool", "mcps": "MCP server", "memories": "memory"}
_WHOLE = ("name", "version", "description", "env", "triggers", "schedule", "knowledge", "schemas")
_SAME = Change("changed", "", "is written otherwise, and runs as before")


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that changed: `step page`, `agent writer`, `input`.

    `used_by` are the steps that run with it, `after` those that come after these; both by path.
    """

    name: str
    changes: tuple[Change, ...]
    used_by: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """The project, with an empty `workflow`, or one of its workflows."""

    workflow: str
    subjects: tuple[Subject, ...]


@dataclass(frozen=True, slots=True)
class Diff:
    old: str
    new: str
    parts: tuple[Part, ...]

    @property
    def is_empty(self) -> bool:
        return self.old == self.new

    @property
    def breaking(self) -> list[tuple[str, Change]]:
        """What callers and schedules have to know, each with its workflow."""
        return [
            (part.workflow, change)
            for part in self.parts
            for subject in part.subjects
            for change in subject.changes
            if change.is_breaking
        ]

    def data(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "same": self.is_empty,
            "old": self.old,
            "new": self.new,
            "breaking": len(self.breaking),
            "workflows": [
                {
                    "workflow": part.workflow or None,
                    "changes": [
                        {
                            "subject": subject.name,
                            "changes": [change.data() for change in subject.changes],
                            "used_by": list(subject.used_by),
                            "after": list(subject.after),
                        }
                        for subject in part.subjects
                    ],
                }
                for part in self.parts
            ],
        }

    def text(self) -> str:
        """In words, ending in a newline."""
        if self.is_empty:
            return "no difference\n"
        lines: list[str] = []
        for part in self.parts:
            lines.append(f"workflow {part.workflow}" if part.workflow else "project")
            for subject in part.subjects:
                lines.append(f"  {subject.name}")
                for change in subject.changes:
                    mark = " (breaking)" if change.is_breaking else ""
                    lines.append(f"    {change.message}{mark}")
                    lines += [f"      {line}" for line in change.lines]
                if subject.used_by:
                    lines.append(f"    used by: {', '.join(subject.used_by)}")
                if subject.after:
                    # A container stands for what is in it.
                    inside = tuple(f"{path}/" for path in subject.after)
                    outer = [path for path in subject.after if not path.startswith(inside)]
                    lines.append(f"    may see other input: {', '.join(outer)}")
        if count := len(self.breaking):
            lines.append(f"{count} breaking {'change' if count == 1 else 'changes'} for callers")
        return "\n".join(lines) + "\n"


def diff(old: Plan, new: Plan) -> Diff:
    """What changes for a run when `new` takes the place of `old`."""
    if old.hash == new.hash:
        return Diff(old.hash, new.hash, ())
    changed = tuple(differences(to_json(old.project), to_json(new.project)))
    parts = [Part("", (Subject("settings", changed),))] if changed else []
    for key in sorted({*old.workflows, *new.workflows}):
        before, after = old.workflows.get(key), new.workflows.get(key)
        if before is None or after is None:
            gone = after is None
            change = Change(
                "removed" if gone else "added",
                "",
                "is gone: nothing can start it any more" if gone else "is new",
                is_breaking=gone,
            )
            parts.append(Part(key, (Subject("whole", (change,)),)))
        elif canonical(to_json(before)) != canonical(to_json(after)):
            subjects = tuple(_Workflow(before, after).subjects())
            parts.append(Part(key, subjects or (Subject("whole", (_SAME,)),)))
    return Diff(old.hash, new.hash, tuple(parts))


class _Workflow:
    def __init__(self, old: WorkflowPlan, new: WorkflowPlan) -> None:
        self._old, self._new = old, new
        self._after = _following(new)

    def subjects(self) -> Iterator[Subject]:
        old, new = self._old, self._new
        contract = tuple(input_changes(old.input_schema, new.input_schema))
        if contract:
            yield Subject("input", contract)
        for name in _WHOLE:
            found = tuple(differences(to_json(getattr(old, name)), to_json(getattr(new, name))))
            if found:
                yield Subject(name, found)
        order = tuple(self._order())
        if order:
            yield Subject("order", order)
        for name, called in _DEFINITIONS.items():
            yield from self._definitions(name, called)
        yield from self._steps()
        results = tuple(output_changes(old.outputs, new.outputs))
        if results:
            yield Subject("outputs", results)

    def _order(self) -> Iterator[Change]:
        old, new = self._old, self._new
        yield from differences(old.recover_on_error, new.recover_on_error, ("recover_on_error",))
        yield from differences(old.start, new.start, ("start",))
        before = [path for path in old.all_steps if path in new.all_steps]
        after = [path for path in new.all_steps if path in old.all_steps]
        if before != after:
            message = f"the steps stand in another order: {', '.join(after)}"
            yield Change("moved", "steps", message, before, after)

    def _definitions(self, name: str, called: str) -> Iterator[Subject]:
        old, new = getattr(self._old, name), getattr(self._new, name)
        for key in sorted({*old, *new}):
            if key in old and key in new:
                found = tuple(differences(to_json(old[key]), to_json(new[key])))
            else:
                found = (outcome(is_new=key in new),)
            if found:
                used_by = () if _is_layout(found) else tuple(_users(self._new, name, key))
                yield Subject(f"{called} {key}", found, used_by, self._following(used_by))

    def _steps(self) -> Iterator[Subject]:
        old, new = self._old.all_steps, self._new.all_steps
        moved = _moved(old, new)
        for path, step in new.items():
            was = moved.get(path, path)
            if was not in old:
                change: tuple[Change, ...] = (outcome(is_new=True),)
            else:
                change = tuple(differences(_own(old[was]), _own(step)))
                if was != path:
                    message = f"was `{was}` before"
                    change = (Change("moved", "path", message, was, path), *change)
            if change:
                after = () if _is_layout(change) else self._following((path,))
                yield Subject(f"step {path}", change, (), after)
        for path in old:
            if path not in new and path not in moved.values():
                yield Subject(f"step {path}", (outcome(is_new=False),))

    def _following(self, paths: Iterable[str]) -> tuple[str, ...]:
        """The steps after some, in the order of the plan."""
        paths = tuple(paths)
        found = {later for path in paths for later in self._after.get(path, ())}
        return tuple(p for p in self._new.all_steps if p in found and p not in paths)


def _is_layout(changes: Iterable[Change]) -> bool:
    """Whether all of them leave what runs as it was."""
    return all(change.is_layout for change in changes)


def _own(step: StepPlan) -> dict[str, Any]:
    """A step as JSON, without the steps in it and what says only where it stands."""
    return {k: v for k, v in to_json(step).items() if k not in ("steps", "path", "id", "role")}


def _moved(old: dict[str, StepPlan], new: dict[str, StepPlan]) -> dict[str, str]:
    """The steps that stand elsewhere, or have another id, by their new path: the old one."""
    gone = {path: step for path, step in old.items() if path not in new}
    out: dict[str, str] = {}
    for path, step in new.items():
        if path in old:
            continue
        alike = [p for p, was in gone.items() if was.id == step.id and was.type == step.type]
        if not alike:  # renamed: what it does is the same
            alike = [p for p, was in gone.items() if _content(was) == _content(step)]
        if len(alike) == 1:
            out[path] = alike[0]
            del gone[alike[0]]
    return out


def _content(step: StepPlan) -> dict[str, Any]:
    """What a step does, whatever it is called and wherever it leads."""
    edges = ("on_success", "on_error", "start")
    own = {k: v for k, v in _own(step).items() if k not in edges}
    if step.agent is not None and step.agent.agent == step.id:  # made for its prompt
        own["agent"] = {**own["agent"], "agent": ""}
    return {**own, "steps": [(inside.id, _content(inside)) for inside in step.steps]}


def _following(workflow: WorkflowPlan) -> dict[str, set[str]]:
    """For each step, by path, those that may run after it."""
    out: dict[str, set[str]] = {}

    def visit(steps: tuple[StepPlan, ...], beyond: set[str]) -> None:
        by_id = {step.id: step for step in steps}
        edges: dict[str, list[str]] = {}
        for link in links(steps):
            # A target that is only known when it runs may be any step of the list.
            targets = [link.target] if link.target in by_id else list(by_id)
            edges.setdefault(link.source, []).extend(targets if link.target else [])
        for step in steps:
            reached: dict[str, None] = {}
            waiting = list(edges.get(step.id, ()))
            while waiting:
                name = waiting.pop()
                if name not in reached:
                    reached[name] = None
                    waiting += edges.get(name, ())
            later = set(beyond)
            for name in reached:
                later |= {inner.path for inner in walk((by_id[name],))}
            out[step.path] = later
            visit(step.steps, later)

    visit(workflow.steps, set())
    return out


def _users(workflow: WorkflowPlan, name: str, key: str) -> Iterator[str]:
    """The steps that run with a definition, by themselves or through their agent."""
    for path, step in workflow.all_steps.items():
        agent = workflow.agents[step.agent.agent] if step.agent else None
        used = {
            "agents": [step.agent.agent] if step.agent else [],
            "tools": [*([step.tool.tool] if step.tool else []), *(agent.tools if agent else ())],
            "mcps": list(agent.mcps) if agent else [],
            "memories": [
                *([step.memory.memory] if step.memory else []),
                *(use.memory for use in (agent.memory if agent else ())),
            ],
        }
        if key in used[name]:
            yield path
