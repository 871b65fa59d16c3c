"""The built-in tools, as tasks and agents use them: which are on, and what those for files and
programs are asked for (language.md §6.5)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from compozy_prefect.compiler.builtins import BUILTINS, INNER, builtin_of
from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.natives import NATIVES
from compozy_prefect.diagnostics import Diagnostic, Span, error
from compozy_prefect.language import programs as words
from compozy_prefect.language.models.native import NativeTools
from compozy_prefect.language.models.task import BasicTask
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence

_PATHS = ("path", "dir", "working_dir")


def natives(project: Project) -> Iterator[Diagnostic]:
    given = project.loaded.project
    runtime = given.runtime if given is not None else None
    settings = runtime.native_tools if runtime is not None else None
    if settings is not None:
        yield from _switched_off(project, settings)
        if not settings.enabled:
            return
    folders = _folders(settings, os.path.realpath(project.loaded.root))
    allowed = _allowed(settings)
    for checked in project.workflows:
        for step in checked.tree.all:
            tool, node = builtin_of(step.task), step.task.node.get("with")
            if tool is None or tool.id not in NATIVES or not isinstance(node, Mapping):
                continue
            for name in _PATHS:
                yield from _inside(node.get(name), folders)
            if tool.id == "cp__exec":
                yield from _program(node.get("command"), allowed)


def _switched_off(project: Project, settings: NativeTools) -> Iterator[Diagnostic]:
    off = {tool: "native_tools" for tool in BUILTINS if not settings.enabled}
    for tool in INNER:
        own = getattr(settings, tool.removeprefix("cp__"), None)
        if own is not None and not own.enabled:
            off.setdefault(tool, f"native_tools.{tool.removeprefix('cp__')}")
    seen: set[Span] = set()
    for checked in project.workflows:
        nodes: list[Node | None] = []
        for step in checked.tree.all:
            nodes.append(step.task.node.get("tool"))
            if isinstance(step.task, BasicTask):
                nodes += _items(step.task.node.get("tools"))
        for agent in checked.scope.agents_used:
            nodes += _items(agent.node.get("tools"))
        for node in nodes:
            name = node.at("id").data() if node is not None else None
            if node is not None and name in off and node.span not in seen:
                seen.add(node.span)
                message = f"`{name}` is switched off, by `enabled: false` of `{off[name]}`"
                hint = "remove that, or do without the tool"
                yield error("CZ332", message, node.span, hint)


def _items(node: Node | None) -> list[Node | None]:
    return list(node.items) if isinstance(node, Sequence) else [node]


def _folders(settings: NativeTools | None, root: str) -> list[str]:
    given = [settings.root_dir, *settings.additional_roots] if settings is not None else ["."]
    return [os.path.realpath(os.path.join(root, one)) for one in given]


def _allowed(settings: NativeTools | None) -> list[str]:
    listed = settings.exec.allowlist if settings is not None and settings.exec else []
    return [*words.ALWAYS, *(one if isinstance(one, str) else one.path for one in listed)]


def _inside(node: Node | None, folders: list[str]) -> Iterator[Diagnostic]:
    text = node.data() if isinstance(node, Scalar) else None
    if node is None or not isinstance(text, str) or "{{" in text or "\0" in text or not text:
        return
    real = os.path.realpath(os.path.join(folders[0], text))
    if not any(real == one or real.startswith(one.rstrip(os.sep) + os.sep) for one in folders):
        hint = "paths count from `root_dir`; further folders are `additional_roots`"
        message = f"`{text}` is outside of the folders that tools may use"
        yield error("CZ332", message, node.span, hint)


def _program(node: Node | None, allowed: list[str]) -> Iterator[Diagnostic]:
    name = node.data() if isinstance(node, Scalar) else None
    if node is None or not isinstance(name, str) or "{{" in name or words.may_be(name, allowed):
        return
    way = f"add `runtime: {{native_tools: {{exec: {{allowlist: [{name}]}}}}}}`"
    if " " in name.strip():
        first, *rest = name.split()
        way = f"write `command: {first}` and `args: [{', '.join(rest)}]`"
    near = nearest(name, allowed)
    hint = f"did you mean `{near}`? Otherwise {way}" if near else way
    yield error("CZ330", f"the project does not allow the program `{name}`", node.span, hint)
