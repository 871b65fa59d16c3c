"""What surrounds the workflows: runtime, monitoring, parameters of models (language.md §1.1, §1.2,
§14 rows 27, 37 and 38)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from compozy_prefect.compiler.checks.nouns import is_template, nouns
from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.checks.scripts import is_export
from compozy_prefect.compiler.checks.servers import address
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.language.discovery import within
from compozy_prefect.language.models.model import Model, Parameters
from compozy_prefect.language.models.project import Monitoring, Runtime
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Node, Scalar, Sequence
from compozy_prefect.language.permissions import LEAST_MEMORY, REFUSED, unenforceable

_GRANTS = ("read", "write", "net", "env", "sys", "run", "ffi", "import")
_FLAGS = (*(f"--{way}-{what}" for way in ("allow", "deny") for what in _GRANTS), "--allow-all")
# Of Node; what Deno calls them is what the language writes.
_NODE = {
    "--allow-fs-read": "--allow-read",
    "--allow-fs-write": "--allow-write",
    "--allow-child-process": "--allow-run",
}
_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][\w+.-]*)://(?:[^/@]*@)?(?P<host>\[[^]]*\]|[^/?#:]*)(?P<port>:\d+)?"
)
_RANGES = {"temperature": (0, 2), "top_p": (0, 1)}


def service(project: Project) -> Iterator[Diagnostic]:
    for noun in nouns(project, Runtime, Monitoring, Parameters):
        match noun:
            case Runtime():
                yield from _entrypoint(noun, project)
                yield from _engine(noun)
                yield from _permissions(noun, project)
                yield from _memory(noun)
            case Monitoring():
                yield from _path(noun.node.get("path"))
                yield from _path(noun.node.at("metrics", "endpoint"))
            case Parameters():
                yield from _ranges(noun)
                if isinstance(noun, Model):
                    yield from _addresses(noun)


def _memory(runtime: Runtime) -> Iterator[Diagnostic]:
    given = runtime.memory_limit
    if given is not None and given < LEAST_MEMORY:
        least = f"{LEAST_MEMORY >> 20} MiB"
        yield warning(
            "CZ325",
            f"tools in JavaScript get {least} all the same: the engine itself takes a half of it",
            runtime.node.at("memory_limit").span,
            f"write {LEAST_MEMORY >> 20}MiB or more",
        )


def _entrypoint(runtime: Runtime, project: Project) -> Iterator[Diagnostic]:
    """§1.2. Whether it is there; `scripts` looks into it."""
    given = (runtime.entrypoint or "").strip()
    if not given or is_template(given):
        return
    span = runtime.node.at("entrypoint").span
    if not given.endswith((".ts", ".js")):
        hint = "write the path of a `.ts` or `.js` file, such as `./tools.ts`"
        yield error("CZ325", f"the entrypoint `{given}` is no TypeScript or JavaScript", span, hint)
        return
    path = within(project.loaded.root, given)
    if path is None:
        hint = "it is a path from the project's directory, and does not leave it"
        yield error("CZ325", f"the entrypoint `{given}` is outside of the project", span, hint)
    elif not Path(path).is_file():
        # Without it nothing is lost as long as no tool is one of its exports.
        wanted = next((tool.id for tool in nouns(project, Tool) if is_export(tool)), None)
        say = warning if wanted is None else error
        there = "is a directory" if Path(path).is_dir() else "does not exist"
        yield say(
            "CZ325",
            f"the entrypoint `{given}` {there}",
            span,
            "no tool needs it yet; make the file, or remove the key"
            if wanted is None
            else f"the tool `{wanted}` is an export of it; make the file, or correct the path",
        )


def _engine(runtime: Runtime) -> Iterator[Diagnostic]:
    if runtime.engine == "native" and runtime.type == "deno":
        hint = "leave `engine` out: Deno keeps to all permissions by itself"
        message = "`engine: native` is for `type: node` and `type: bun`"
        yield error("CZ325", message, runtime.node.at("engine").span, hint)


def _permissions(runtime: Runtime, project: Project) -> Iterator[Diagnostic]:
    listed = runtime.node.get("permissions")
    for node in listed.items if isinstance(listed, Sequence) else ():
        if isinstance(node, Scalar) and isinstance(node.value, str):
            wrong = [*_permission(node, node.value)]
            yield from wrong
            if runtime.engine == "native" and not wrong:
                yield from _native(node, node.value.strip(), project.loaded.root)


def _native(node: Scalar, text: str, root: Path) -> Iterator[Diagnostic]:
    refusal = unenforceable(text, root)
    if refusal is not None:
        message = f"`engine: native` cannot keep to `{text}`: {refusal[0]}"
        yield error("CZ325", message, node.span, refusal[1])


def _permission(node: Scalar, text: str) -> Iterator[Diagnostic]:
    flag, given, names = text.strip().partition("=")
    if flag in REFUSED:
        yield error(
            "CZ325",
            f"`{flag}` is refused: {REFUSED[flag]}",
            node.span,
            "allow what it needs: `--allow-net=api.example.com`, `--allow-read=data`",
        )
    elif flag not in _FLAGS:
        near = _NODE.get(flag) or nearest(flag, _FLAGS)
        hint = f"did you mean `{near}`?" if near else f"there are {', '.join(_FLAGS[:5])}"
        yield error("CZ325", f"unknown permission: `{flag}`", node.span, hint)
    elif given and not names.strip():
        hint = f"write `{flag}` for all of it, or name what is allowed"
        yield error("CZ325", f"`{text.strip()}` names nothing", node.span, hint)
    elif flag in ("--allow-net", "--deny-net"):
        for name in filter(None, map(str.strip, names.split(","))):
            yield from _host(node, name)


def _host(node: Scalar, name: str) -> Iterator[Diagnostic]:
    """One of `--allow-net`, maybe with a port: an address of the web would name nothing."""
    found = _ADDRESS.match(name)
    if found is not None:
        port = found["port"] or (":80" if found["scheme"].lower() == "http" else ":443")
        message = f"`{name}` is an address, and a permission names a host"
        yield error("CZ325", message, node.span, f"write `{found['host']}{port}`")


def _path(node: Node | None) -> Iterator[Diagnostic]:
    """Rules of `monitoring.path`, and of `metrics.endpoint`, its alias."""
    text = node.value if isinstance(node, Scalar) else None
    if node is None or not isinstance(text, str) or not text or is_template(text):
        return
    if not text.startswith("/"):
        hint = f"write `/{text.strip()}`" if text.strip() else "such as `/metrics`"
        yield error("CZ325", f"the path `{text}` does not begin with `/`", node.span, hint)
    elif text.startswith("/api/"):
        hint = "the API answers there; such as `/metrics`"
        yield error("CZ325", f"the path `{text}` begins with `/api/`", node.span, hint)
    elif "?" in text:
        hint = f"write `{text.partition('?')[0]}`"
        yield error("CZ325", f"the path `{text}` has a query", node.span, hint)


def _addresses(model: Model) -> Iterator[Diagnostic]:
    for name in ("api_url", "base_url"):
        url = getattr(model, name)
        if url:
            yield from address(model.node.at(name), url, "CZ325")


def _ranges(parameters: Parameters) -> Iterator[Diagnostic]:
    """Providers differ in what they take, so that this refuses nothing."""
    for name, (least, most) in _RANGES.items():
        value = getattr(parameters, name)
        if value is not None and not least <= value <= most:
            yield warning(
                "CZ325",
                f"`{name}` is {value:g}, and goes from {least} to {most}",
                parameters.node.at(name).span,
            )
