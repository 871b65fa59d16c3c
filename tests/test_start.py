"""What the commands that run nothing cost and touch: no engine, no socket, no process, no file."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import compozy_prefect

ROOT = Path(__file__).parents[1]
PACKAGE = Path(compozy_prefect.__file__).parent
HELLO = ROOT / "examples" / "hello-world"
HEAVY = (
    *("prefect", "litellm", "mcp", "fastapi", "redis", "sqlalchemy", "httpx", "openai"),
    "tree_sitter",  # for projects with code in them
)
COMMANDS = {
    "validate": ["validate", str(HELLO)],
    "validate as JSON": ["validate", str(HELLO), "--format", "json"],
    "plan": ["plan", str(HELLO)],
    "test --list": ["test", str(HELLO), "--list"],
    "render": ["render", "{{ upper 'hello' | toJson }}"],
    "explain": ["explain", "CZ210"],
    "version": ["version"],
    "help": ["--help"],
}
# Left of `flows` nothing knows the engine; these stand there.
LEFT = ("language", "expressions", "compiler", "codes", "diagnostics.py", "errors.py")
# Of the tests of workflows, only what runs them does.
TESTING = [path for path in sorted((PACKAGE / "testing").glob("*.py")) if path.name != "run.py"]
EAGER = ("prefect", "litellm", "mcp", "fastapi", "redis", "sqlalchemy", "httpx")


def _run(code: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=60,
    )


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_the_command_imports_no_engine(arguments: list[str]) -> None:
    done = _run(
        """
        import sys
        from compozy_prefect.cli import main
        code = main(sys.argv[2:])
        heavy = [name for name in sys.argv[1].split(",") if name in sys.modules]
        print(code, heavy, file=sys.stderr)
        """,
        ",".join(HEAVY),
        *arguments,
    )
    assert done.stderr.splitlines()[-1] == "0 []"
    assert done.stdout or arguments[0] == "validate"


def _imports(tree: ast.AST) -> Iterator[str]:
    """The modules that are imported when the code runs; those for type checkers are not."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from (name for part in node.orelse for name in _imports(part))
        else:
            yield from _imports(node)


def _modules() -> list[Path]:
    found = [PACKAGE / name for name in LEFT]
    return sorted(
        path
        for place in found
        for path in ([place] if place.is_file() else sorted(place.rglob("*.py")))
    )


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_left_of_flows_imports_the_engine(path: Path) -> None:
    inside = {f"compozy_prefect.{name}" for name in ("flows", "runtime", "api", "store", "cli")}
    # The one door: `CompiledProject.flow` hands the plan over.
    allowed = {"compozy_prefect.flows.build", "compozy_prefect.flows.build.build_flow"}
    for name in _imports(ast.parse(path.read_text("utf-8"))):
        assert name.split(".")[0] not in EAGER
        if path.name != "compile.py" or name not in allowed:
            assert ".".join(name.split(".")[:2]) not in inside


@pytest.mark.parametrize("path", TESTING, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_what_runs_tests_imports_the_engine(path: Path) -> None:
    outside = {f"compozy_prefect.{name}" for name in ("flows", "api", "store", "cli")}
    for name in _imports(ast.parse(path.read_text("utf-8"))):
        assert name.split(".")[0] not in EAGER
        assert ".".join(name.split(".")[:2]) not in outside
        assert name != "compozy_prefect.testing.run"


AUDIT = """
    import json, os, sys
    from compozy_prefect.cli import main
    from compozy_prefect.compiler import compile  # what Python imports is not the project's
    import compozy_prefect.cli.project, compozy_prefect.cli.output, compozy_prefect.compiler.lower
    import jsonschema
    seen = []
    def hook(event, args):
        if event == "open" and isinstance(args[0], (str, bytes)):
            seen.append([event, os.path.realpath(os.fsdecode(args[0])), args[1] or ""])
        elif event in ("os.listdir", "os.scandir"):
            seen.append([event, os.path.realpath(args[0] or "."), ""])
        elif event.startswith(("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn",
                               "os.spawn", "os.system", "os.remove", "os.rename", "os.mkdir",
                               "os.putenv", "shutil.", "pty.", "urllib.", "ctypes.", "compile",
                               "exec")):
            seen.append([event, str(args)[:200], ""])
    sys.addaudithook(hook)
    code = main(sys.argv[1:])
    found, seen = seen, []
    print(json.dumps([code, found]), file=sys.stderr)
"""
UNTRUSTED = """
name: untrusted
runtime: {entrypoint: tools.ts}
workflows: [{source: ../outside.yaml}, {source: flow.yaml}, {source: /etc/hostname}]
models: [{provider: openai, model: gpt-4o, api_key: "{{ .env.KEY }}", api_url: "http://192.0.2.1"}]
agents:
  - {id: w, instructions: "{{ now }}", actions: [{id: x, prompt: hi}]}
tools:
  - {id: t, type: javascript, execute: "require('child_process').execSync('touch /tmp/pwned')"}
  - {id: u, type: javascript, execute: ../outside.ts}
  - {id: v, type: javascript, execute: inside.ts}
  - {id: w}
  - {id: h, type: http, config: {base_url: "http://192.0.2.1"}}
schemas: [{id: s, $ref: "http://192.0.2.1/schema.json", type: [string, "null"]}]
tasks:
  - {id: a, agent: w, action: x}
  - {id: b, tool: t, input: s, with: {x: "{{ env \\"HOME\\" }}", y: {$ref: "http://192.0.2.1/x"}}}
  - {id: c, tool: h, with: {file: "{{ .env.HOME }}"}}
"""


@pytest.mark.parametrize("command", ["validate", "plan"])
@pytest.mark.parametrize("kind", ["hello-world", "untrusted"])
def test_reading_a_project_touches_nothing_but_its_files(
    command: str, kind: str, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    if kind == "hello-world":
        shutil.copytree(HELLO, project)
    else:
        project.mkdir()
        (project / "compozy.yaml").write_text(UNTRUSTED, "utf-8")
        (project / "flow.yaml").write_text("id: flow\ntasks: [{id: a, with: {}}]\n", "utf-8")
        (project / ".env").write_text("KEY=value\n", "utf-8")
        for name in ("project/tools.ts", "project/inside.ts", "outside.ts"):
            (tmp_path / name).write_text("import fs from 'fs'; fs.rmSync('/')", "utf-8")
        (tmp_path / "outside.yaml").write_text("id: out\ntasks: [{id: a, with: {}}]\n", "utf-8")
    done = _run(AUDIT, command, str(project))
    code, events = json.loads(done.stderr.splitlines()[-1])
    assert code == (0 if kind == "hello-world" else 1)
    assert [event for event in events if not _is_harmless(event, project)] == []


def _is_harmless(event: list[Any], project: Path) -> bool:
    name, what, mode = event
    if name in ("compile", "exec"):  # modules that are imported late, and dataclasses
        return "compozy.yaml" not in what
    if name not in ("open", "os.listdir", "os.scandir"):
        return False
    path = Path(what)
    if path.is_relative_to(project.resolve()):
        return mode in ("", "r", "rb")
    # Python's own: the modules it imports late, where it looks for them, and their bytecode.
    if name == "os.listdir" and path == ROOT:
        return True
    libraries = [Path(place).resolve() for place in (sys.prefix, sys.base_prefix, PACKAGE)]
    return any(path.is_relative_to(place) for place in libraries)


@pytest.mark.parametrize(
    "act",
    [
        "open('/etc/hostname')",
        "socket.socket()",
        "subprocess.run(['true'])",
        "os.listdir('/')",
        "open(os.path.join(sys.argv[2], 'new'), 'w')",
    ],
)
def test_the_audit_sees_what_it_should(act: str, tmp_path: Path) -> None:
    code = AUDIT.replace("code = main(sys.argv[1:])", f"import socket, subprocess; {act}; code = 0")
    done = _run(code, "validate", str(tmp_path))
    _, events = json.loads(done.stderr.splitlines()[-1])
    assert [event for event in events if not _is_harmless(event, tmp_path)] != []
