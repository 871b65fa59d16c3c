"""The JavaScript of tools: inline code, and exports of the entrypoint (language.md §6.3, §6.4, §14
row 28). It is read, and nothing of it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from compozy_prefect.compiler.checks.nouns import called, is_given, is_template, nouns
from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.diagnostics import Diagnostic, SourceText, Span, error, warning
from compozy_prefect.language import exports
from compozy_prefect.language.discovery import within
from compozy_prefect.language.javascript import LONGEST, PATH, Code, Fault, Reader, Unread
from compozy_prefect.language.models.project import Runtime
from compozy_prefect.language.models.tool import BUILTIN_TOOLS, Tool
from compozy_prefect.language.names import suggest
from compozy_prefect.language.nodes import File, Scalar
from compozy_prefect.language.source import contents

_EXAMPLE = "as in `async function run({ name }) { return { greeting: `Hello ${name}` } }`"

Place = Callable[[int, int], Span]


def scripts(project: Project) -> Iterator[Diagnostic]:
    reader = Reader()
    for tool in nouns(project, Tool):
        if tool.type == "javascript" and is_given(tool, "execute"):
            yield from _inline(tool, project, reader)
    for runtime in nouns(project, Runtime):
        yield from _entrypoint(runtime, project, reader)


def is_export(tool: Tool) -> bool:
    """Whether the entrypoint is what implements a tool."""
    return tool.type is None and "type" not in tool.node.entries and not tool.execute


def _inline(tool: Tool, project: Project, reader: Reader) -> Iterator[Diagnostic]:
    node = tool.node.get("execute")
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return  # reported
    text, place, what = node.value, node.span_of, f"the code of {called(tool, 'tool')}"
    if PATH.fullmatch(path := text.strip()):
        found = _file(project.loaded.root, path)
        if found is None:
            hint = "correct the path, from the project's directory, or write the function here"
            yield error("CZ326", f"there is no file `{path}` in the project", node.span, hint)
            return
        text, place = found.source.text, found.span
    try:
        yield from _one_function(reader.read(text), place, what)
    except Fault as fault:
        yield error(
            "CZ326",
            f"{what} is no JavaScript: {fault.message}",
            place(fault.start, fault.end),
            _way_out(text, fault, place),
        )
    except Unread as reason:
        hint = "keep it in the project's `runtime.entrypoint`, as an export"
        yield warning(
            "CZ326", f"{what} is not checked: {reason}", tool.node.key_span("execute"), hint
        )


def _way_out(text: str, fault: Fault, place: Place) -> str | None:
    if "{{" in text[max(0, fault.start - 3) : fault.end + 1]:
        return "templates are not evaluated in code: its first argument is the tool's input"
    if fault.opened is not None:
        at = place(fault.opened, fault.opened + 1)
        opener = "/*" if text.startswith("/*", fault.opened) else text[fault.opened]
        named = "the backtick" if opener == "`" else f"`{opener}`"
        return f"{named} in line {at.line}, column {at.column}, is not closed"
    return None


def _one_function(code: Code, place: Place, what: str) -> Iterator[Diagnostic]:
    """§6.4. Beside the one that is exported by default others may stand."""
    known = exports.functions(code)
    if known.defaults:
        one, *more = known.defaults
        if more:
            yield error("CZ326", f"{what} has two `export default`", place(*code.place(more[0])))
        elif not exports.is_function(code, one, known):
            message = f"what {what} exports by default is no function of it"
            yield error("CZ326", message, place(*code.place(one)), _EXAMPLE)
    elif not known.all:
        start, end = code.place(code.root)
        yield error("CZ326", f"{what} defines no function", place(start, end), _EXAMPLE)
    elif len(known.all) > 1:
        names = [f"`{name}`" for name, _ in known.all[:3] if name] + ["…"] * (len(known.all) > 3)
        yield error(
            "CZ326",
            f"{what} defines {len(known.all)} functions{': ' if names else ''}{', '.join(names)}",
            place(*code.place(known.all[1][1])),
            "write `export default` in front of the one that is the tool",
        )


def _entrypoint(runtime: Runtime, project: Project, reader: Reader) -> Iterator[Diagnostic]:
    """A tool that is nowhere else must be one of the exports. Says nothing where they are not all
    known."""
    path = (runtime.entrypoint or "").strip()
    wanted = [tool for tool in nouns(project, Tool) if is_export(tool)]
    wanted = [tool for tool in wanted if tool.id not in BUILTIN_TOOLS and not is_template(tool.id)]
    if not wanted or not path.endswith((".ts", ".js")):
        return
    found = _file(project.loaded.root, path)
    try:
        names = None if found is None else exports.exports(reader.read(found.source.text))
    except (Fault, Unread):
        return
    if names is None:
        return
    for tool in wanted:
        if tool.id not in names:
            yield warning(
                "CZ220",
                f"`{path}` does not export the tool `{tool.id}`",
                tool.node.at("id").span,
                suggest(tool.id, sorted(names), what="it exports") or "it exports nothing",
            )


def _file(root: Path, path: str) -> File | None:
    """A file of the project; None when there is none that could be read as code."""
    real = within(root, path)
    if real is None:
        return None
    try:
        raw = contents(Path(real), LONGEST)
    except OSError:
        return None
    text = raw.decode("utf-8", "replace").removeprefix("\ufeff")
    return File(SourceText(str(PurePosixPath(path)), text))
