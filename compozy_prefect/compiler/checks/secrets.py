"""Secrets: those that stand in a file, and those that show (language.md §13 no. 58, service.md §8).

A secret is whatever comes from `.env`; the project lists under `reveal:` what is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from compozy_prefect.compiler.checks.nouns import is_template, nouns
from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.origins import Origin, Traces, echoes
from compozy_prefect.compiler.places import Place, places
from compozy_prefect.compiler.shown import Shown
from compozy_prefect.compiler.tree import Step
from compozy_prefect.diagnostics import Diagnostic, warning
from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.base import Noun
from compozy_prefect.language.models.mcp import Mcp
from compozy_prefect.language.models.memory import TokenProvider
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.models.project import WorkflowConfig
from compozy_prefect.language.models.task import Task
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.models.trigger import Verify
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence

# What providers make their keys begin with; long enough to be one, and no word of a text.
_KEY = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"sk-(?=[A-Za-z0-9_-]*[0-9])[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|"
    r"github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{20,}|xox[abprs]-[A-Za-z0-9-]{10,}|"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{35}|[rs]k_live_[A-Za-z0-9]{20,}"
    r")(?![A-Za-z0-9])|-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----"
)
# What may read the environment: it is named, or the dot or the root are given on as a whole.
_READS = re.compile(r"env|(?<![\w\])])[.$](?![\w\[.])")
# The fields where secrets belong, as templates.
_FIELDS: dict[type[Noun], tuple[str, ...]] = {
    Agent: ("env",),
    Task: ("env",),
    WorkflowConfig: ("env",),
    Tool: ("config", "env", "with"),
    Mcp: ("url", "command", "args", "headers", "env", "auth"),
}


def secrets(project: Project) -> Iterator[Diagnostic]:
    for noun in nouns(project, Model, Verify, TokenProvider, *_FIELDS):
        if isinstance(noun, Model):
            yield from _literals(noun.node.get("organization"), "OPENAI_ORGANIZATION")
        match noun:
            case Model(api_key=str(key)) if key and not is_template(key):
                variable = f"{noun.provider.upper()}_API_KEY"
                lost = "; the plan never holds a key, so a deployed flow cannot use this one"
                yield _stands("key", noun.node.at("api_key"), variable, lost)
            case TokenProvider(api_key=str(key)) if key and not is_template(key):
                variable = f"{noun.provider or 'openai'}_API_KEY".upper()
                yield _stands("key", noun.node.at("api_key"), variable)
            case Verify(secret=str(key)) if key and not is_template(key):
                yield _stands("secret", noun.node.at("secret"), "WEBHOOK_SECRET")
            case _:
                listed = (names for kind, names in _FIELDS.items() if isinstance(noun, kind))
                for name in next(listed, ()):
                    yield from _literals(noun.node.get(name), name)
    revealed = set(project.loaded.project.reveal) if project.loaded.project is not None else set()
    for checked in project.workflows:
        yield from _shown(checked, revealed)


def _stands(what: str, node: Node, variable: str, more: str = "") -> Diagnostic:
    hint = f"put it into `.env` and write `{{{{ .env.{variable} }}}}`{more}"
    return warning("CZ501", f"a {what} stands in the file", node.span, hint)


def _literals(node: Node | None, name: str) -> Iterator[Diagnostic]:
    if isinstance(node, Mapping):
        for key, value in node.entries.items():
            yield from _literals(value, key)
    elif isinstance(node, Sequence):
        for value in node.items:
            yield from _literals(value, name)
    elif isinstance(node, Scalar) and isinstance(node.value, str):
        found = _KEY.search(node.value)
        if found is not None:
            variable = re.sub(r"\W+", "_", name).strip("_").upper() or "KEY"
            hint = f"put it into `.env` and write `{{{{ .env.{variable} }}}}` in its place"
            yield warning("CZ501", "a key stands in the file", node.span_of(*found.span()), hint)


def _shown(checked: Checked, revealed: set[str]) -> Iterator[Diagnostic]:
    listed = [place for place in places(checked.scope) if "{{" in str(place.node.value)]
    if not any(_READS.search(str(place.node.value)) for place in listed if place.sees != "key"):
        return
    traces = Traces(checked)
    for place in listed:
        sink = _sink(place, checked)
        if sink:
            for read, found in traces.of(place):
                secret = [origin for origin in found if origin.name not in revealed]
                if secret:
                    yield _warned(place, read, secret[0], sink)


def _sink(place: Place, checked: Checked) -> str:
    """Who sees what a place gives; empty where a secret may stand."""
    step = place.step
    if place.sees == "prompt":
        instructions = place.owner is not None and place.pointer[2:] == ("instructions",)
        return "goes to the model with the instructions" if instructions else "goes to the model"
    if place.sees == "workflow outputs":
        return "shows in the result of the workflow"
    if step is None:
        return ""
    result = f"shows in the result of the task `{step.id}`"
    inside = place.pointer[len(step.pointer) :]
    if inside[0] == "outputs":
        return result
    if inside[:2] == ("signal", "payload"):
        return "goes out with the signal"
    if inside[:2] == ("memory", "payload"):
        return "is kept in the memory"
    if inside[0] == "with":
        return f"{result}, which is its `with`" if _shows(step) else ""
    if place.ended:
        order = checked.tree.around(step)
        beside = checked.tree.beside(step)
        led = [] if order is None else [order.failure.get(step.id)]
        if order is not None and inside[0] == "on_success":
            led = [order.success.get(step.id), *order.successors(step.id)]
        target = next((n for n in led if n and n in beside and _shows(beside[n])), None)
        return f"shows in the result of the task `{target}`, which is its `with`" if target else ""
    return ""


def _shows(step: Step) -> bool:
    """Whether the result of a step is its `with`."""
    return step.task.outputs is None and echoes(step)


def _warned(place: Place, read: Shown, origin: Origin, sink: str) -> Diagnostic:
    text = str(place.node.value)[read.start : read.end]
    variable = f".env.{origin.name}" if origin.name else ".env"
    span = place.node.span_of(read.start, read.end)
    plain = "leave it out" + (f", or write `reveal: [{origin.name}]`" if origin.name else "")
    hint = f"{plain} in the project if it is no secret" if origin.name else "name what is wanted"
    if origin.span != span:
        hint = f"`{text}` has it from {origin.span.file}:{origin.span.line}; {hint}"
    return warning("CZ508", f"`{variable}` {sink}", span, hint)
