"""Tools of `type: cli`, and the programs that a project allows (language.md §6.1, §6.5, §13).

Nothing is started or looked for on this machine: what is in the project's folder is looked at, and
of the rest the words.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from compozy_prefect.compiler.checks.configs import Config, config_of
from compozy_prefect.compiler.checks.nouns import is_blank, is_given, nouns
from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.language import programs as words
from compozy_prefect.language.discovery import within
from compozy_prefect.language.models.native import CommandArgument, ExecSettings
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.names import nearest, suggest
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence

_FIELDS = ("command", "cwd", "stdin", "stdout", "fail_on_error")
_FORMS = ("auto", "json", "text")
_CODE = frozenset({"-c", "-lc", "-ec", "-ic"})


def programs(project: Project) -> Iterator[Diagnostic]:
    root, allowed = project.loaded.root, list(words.ALWAYS)
    for settings in nouns(project, ExecSettings):
        for given in settings.allowlist:
            allowed.append(given if isinstance(given, str) else given.path)
        yield from _listed(settings, root)
    for argument in nouns(project, CommandArgument):
        yield from _pattern(argument)
    for tool in nouns(project, Tool):
        if tool.type == "cli":
            yield from _tool(tool, allowed, root)


def _tool(tool: Tool, allowed: list[str], root: Path) -> Iterator[Diagnostic]:
    config = config_of(tool)
    if config is None:
        return
    command = config.entries.get("command")
    if is_blank(command):
        yield _missing(config)
    elif isinstance(command, Sequence):
        yield from _command(command, allowed, root)
    elif command is not None:
        yield _no_list(command)
    for name in config.entries:
        if name not in _FIELDS and not (is_blank(command) and nearest(name, _FIELDS)):
            hint = suggest(name, _FIELDS, what="a program has")
            message = f"`config` of a program has no `{name}`"
            yield warning("CZ330", message, config.key_span(name), hint)
    if config.node is not None:
        yield from _around(config.node, root)


def _missing(config: Config) -> Diagnostic:
    way = "`config: {command: [program, argument, …]}`"
    if is_given(config.tool, "execute"):
        at = config.tool.node.key_span("execute")
        return config.lacks("command", f"`execute` is JavaScript; write {way}", at)
    return config.lacks("command", f"add {way}")


def _no_list(command: Node) -> Diagnostic:
    """A command line is no list, and there is no shell to make one of it."""
    text = command.data()
    if not isinstance(text, str):
        message = f"`command` must be a list, not a {command.kind}"
        return error("CZ330", message, command.span, "write `[program, argument, …]`")
    argv, sign = words.argv_of(text)
    if sign:
        hint = f"no shell reads it, and `{sign}` means nothing: make it a script of the project"
    elif argv:
        hint = f"write `command: {_shown(argv)}`: one element for each argument, and no shell"
    else:
        hint = "write `[program, argument, …]`, one element for each argument"
    return error("CZ330", "`command` must be a list, not text", command.span, hint)


def _shown(argv: list[str]) -> str:
    plain = re.compile(r"[A-Za-z0-9_./=@%+][A-Za-z0-9_./=@%+-]*|-[A-Za-z][\w=./-]*|--[\w=./-]+")
    unquoted = ("true", "false", "null", "yes", "no", "on", "off", "~")
    return "[{}]".format(
        ", ".join(
            one
            if plain.fullmatch(one) and one.lower() not in unquoted and not one[:1].isdigit()
            else json.dumps(one, ensure_ascii=False)
            for one in argv
        )
    )


def _command(command: Sequence, allowed: list[str], root: Path) -> Iterator[Diagnostic]:
    if not command.items:
        hint = "write `[program, argument, …]`"
        yield error("CZ330", "`command` is empty", command.span, hint)
        return
    for item in command.items:
        if not isinstance(item, Scalar) or item.value is None:
            hint = "write text, in quotes if it looks like something else"
            yield error("CZ330", f"an argument must be text, not {_a(item)}", item.span, hint)
    first, *rest = command.items
    name = first.data()
    if not isinstance(name, str) or "{{" in name:
        return  # reported, or known when it runs
    if not name.strip():
        yield error("CZ330", "the program is empty", first.span, "write its name or its path")
        return
    if " " in name.strip() and not rest:
        argv, _ = words.argv_of(name)
        way = f"write `command: {_shown(argv)}`" if argv else "one element for each argument"
        yield error("CZ330", f"`{name}` is no program: it has arguments", first.span, way)
        return
    if not words.may_be(name, allowed):
        way = f"add `runtime: {{native_tools: {{exec: {{allowlist: [{name}]}}}}}}`"
        meant = nearest(name, allowed)
        hint = f"did you mean `{meant}`? Otherwise {way}" if meant else way
        message = f"the project does not allow the program `{name}`"
        yield error("CZ330", message, first.span, hint)
    elif name not in allowed:
        yield from _file(first, name, root)
    yield from _shell(name, rest)


def _a(node: Node) -> str:
    return "null" if isinstance(node, Scalar) else f"a {node.kind}"


def _file(node: Node, name: str, root: Path) -> Iterator[Diagnostic]:
    """A program of the project is there, and may be executed."""
    if words.is_name(name) or os.path.isabs(name):
        return
    real = within(root, name)
    if real is None:
        hint = "a program outside of it is named by its whole path"
        yield error("CZ330", f"the program `{name}` is outside of the project", node.span, hint)
    elif not os.path.isfile(real):
        hint = "it is a path from the project's directory"
        yield error("CZ330", f"there is no program `{name}` in the project", node.span, hint)
    elif not os.access(real, os.X_OK):
        hint = f"`chmod +x {name}`"
        yield error("CZ330", f"`{name}` is no program: it is not executable", node.span, hint)


def _shell(name: str, arguments: list[Node]) -> Iterator[Diagnostic]:
    """What is rendered into code is code."""
    if os.path.basename(name) not in words.SHELLS:
        return
    is_code = False
    for node in arguments:
        text = node.data()
        if is_code and isinstance(text, str) and "{{" in text:
            hint = 'give it as an argument: `[sh, -c, \'echo "$1"\', sh, "{{ .input.name }}"]`'
            message = "a template in the code of a shell lets its value be executed"
            yield error("CZ330", message, node.span, hint)
            return
        is_code = text in _CODE


def _around(config: Mapping, root: Path) -> Iterator[Diagnostic]:
    folder, form = config.get("cwd"), config.get("stdout")
    text = folder.data() if folder is not None else None
    if folder is not None and isinstance(text, str) and "{{" not in text:
        real = within(root, text)
        if real is None or not os.path.isdir(real):
            what = "is outside of the project" if real is None else "is no folder of the project"
            hint = "it is a path from the project's directory, and does not leave it"
            yield error("CZ330", f"`cwd` {what}: `{text}`", folder.span, hint)
    if form is not None and form.data() not in _FORMS and "{{" not in str(form.data()):
        hint = "`auto` is JSON where it is JSON, and text otherwise"
        message = f"`stdout` is one of {', '.join(_FORMS)}"
        yield error("CZ330", message, form.span, hint)


def _listed(settings: ExecSettings, root: Path) -> Iterator[Diagnostic]:
    given = settings.node.get("allowlist")
    for node in given.items if isinstance(given, Sequence) else ():
        at = node.at("path")
        path = at.data() if isinstance(at, Scalar) else None
        if not isinstance(path, str):
            continue  # reported
        name = path.strip()
        if " " in name and not os.path.isabs(name):
            hint = f"write `{name.split()[0]}`; `arguments` says what it may be called with"
            yield error("CZ330", f"`{name}` is no program: it has arguments", at.span, hint)
        elif os.path.basename(name) in words.SHELLS:
            hint = "allow the programs that are needed, or a script of the project"
            message = f"`{name}` starts any other program, so that all are allowed"
            yield warning("CZ330", message, at.span, hint)
        else:
            yield from _file(at, name, root)


def _pattern(argument: CommandArgument) -> Iterator[Diagnostic]:
    node = argument.node.get("pattern")
    if argument.pattern is None or node is None:
        return
    fault = words.fault_of(argument.pattern)
    if fault:
        message = f"the pattern is no regular expression of RE2: {fault}"
        yield error("CZ330", message, node.span, "in quotes, such as `'[a-z]+'`")
