"""Tools of `type: python`: whether the function is there, and allowed (language.md §6.1).

Files of the project are read, and nothing is imported.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from compozy_prefect.compiler.checks.configs import config_of
from compozy_prefect.compiler.checks.nouns import is_blank, nouns
from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.language import functions as words
from compozy_prefect.language.discovery import within
from compozy_prefect.language.models.native import PythonTools
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.names import nearest, suggest
from compozy_prefect.language.nodes import Node, Sequence
from compozy_prefect.language.source import contents

_LONGEST = 1 << 20  # bytes of a module that is read
_EXAMPLE = 'such as `"tools.text:count"`, the function `count` in `tools/text.py`'


def functions(project: Project) -> Iterator[Diagnostic]:
    allowed: list[str] = []
    for settings in nouns(project, PythonTools):
        allowed += settings.allowlist
        yield from _listed(settings)
    for tool in nouns(project, Tool):
        if tool.type == "python":
            yield from _tool(tool, allowed, project.loaded.root)


def _tool(tool: Tool, allowed: list[str], root: Path) -> Iterator[Diagnostic]:
    config = config_of(tool)
    if config is None:
        return
    node = config.entries.get("function")
    if node is None or is_blank(node):
        yield config.lacks("function", f"add `config: {{function: …}}`, {_EXAMPLE}")
        return
    text = node.data()
    if not isinstance(text, str):
        message = f"`function` must be text, not a {node.kind}"
        yield error("CZ331", message, node.span, _EXAMPLE)
    elif "{{" in text:
        hint = "templates in the input decide what it is called with"
        message = "`function` is fixed, and no template"
        yield error("CZ331", message, node.span, hint)
    elif not words.FUNCTION.fullmatch(text):
        yield error("CZ331", f"`{text}` is no `module:function`", node.span, _meant(text))
    else:
        if not words.is_allowed(text, allowed):
            hint = f'add `runtime: {{python: {{allowlist: ["{text}"]}}}}`'
            near = nearest(text, allowed)
            if near:
                hint = f"did you mean `{near}`? Otherwise {hint}"
            message = f"the project does not allow the function `{text}`"
            yield error("CZ331", message, node.span, hint)
        yield from _defined(node, text, root)


def _meant(text: str) -> str:
    """`tools/text.py:count` and `tools.text.count` are common ways to write it."""
    guess = text.strip().removeprefix("./").replace(".py", "").replace("/", ".")
    if ":" not in guess and "." in guess:
        guess = ":".join(guess.rsplit(".", 1))
    return f'write `"{guess}"`' if words.FUNCTION.fullmatch(guess) else _EXAMPLE


def _defined(node: Node, text: str, root: Path) -> Iterator[Diagnostic]:
    module, _, name = text.partition(":")
    parts = module.split(".")
    path = _file(root, parts)
    if path is None:
        top = os.path.join(root, parts[0])
        files = [one.removesuffix(".py").replace(os.sep, ".") for one in _modules(root)]
        hint = suggest(module, files, what="the project has")
        if os.path.isdir(top) or os.path.isfile(top + ".py"):
            message = f"there is no module `{module}` in the project"
            yield error("CZ331", message, node.span, hint)
        elif parts[0] not in sys.stdlib_module_names:
            message = f"there is no module `{module}` in the project: it has to be installed"
            yield warning("CZ331", message, node.span, hint if hint and "did you" in hint else None)
        return
    shown = os.path.relpath(path, os.path.realpath(root)).replace(os.sep, "/")
    try:
        tree = ast.parse(contents(Path(path), _LONGEST), shown)
    except SyntaxError as fault:
        message = f"`{shown}` is no Python: line {fault.lineno}: {fault.msg}"
        yield error("CZ331", message, node.span)
        return
    except (OSError, ValueError, RecursionError, MemoryError):
        return
    known = _names(tree)
    if known is not None and name.partition(".")[0] not in known:
        of = sorted(one for one, is_function in known.items() if is_function and one[:1] != "_")
        hint = suggest(name, of, what="it has") or "it has no functions"
        message = f"`{shown}` has no function `{name}`"
        yield error("CZ331", message, node.span, hint)


def _file(root: Path, parts: list[str]) -> str | None:
    for end in ((*parts[:-1], parts[-1] + ".py"), (*parts, "__init__.py")):
        real = within(root, os.path.join(*end))
        if real is not None and os.path.isfile(real):
            return real
    return None


def _modules(root: Path) -> Iterator[str]:
    """Paths of modules of the project, from its folder; not all of very many."""
    left = 1000
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(one for one in folders if one.isidentifier() and one != "node_modules")
        left -= len(files) + 1
        if left < 0:
            return
        for file in sorted(files):
            if file.endswith(".py") and file != "__init__.py":
                yield os.path.relpath(os.path.join(folder, file), root)


def _names(tree: ast.Module) -> dict[str, bool] | None:
    """The names of a module, and which are functions; None where they cannot all be known."""
    found: dict[str, bool] = {}
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        one = waiting.pop()
        match one:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if one.name == "__getattr__":
                    return None
                found[one.name] = True
            case ast.ClassDef():
                found[one.name] = False
            case ast.Import() | ast.ImportFrom():
                for alias in one.names:
                    if alias.name == "*":
                        return None
                    found.setdefault(alias.asname or alias.name.partition(".")[0], False)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
                targets = one.targets if isinstance(one, ast.Assign) else [one.target]
                for target in targets:
                    for part in ast.walk(target):
                        if isinstance(part, ast.Name):
                            found.setdefault(part.id, False)
            case ast.Expr() | ast.Pass():
                # `globals().update(…)` and the like
                if "globals" in ast.dump(one):
                    return None
            case _:
                waiting += [part for part in ast.walk(one) if isinstance(part, ast.stmt)][1:]
    return found


def _listed(settings: PythonTools) -> Iterator[Diagnostic]:
    given = settings.node.get("allowlist")
    for node in given.items if isinstance(given, Sequence) else ():
        text = node.data()
        if isinstance(text, str) and not words.ENTRY.fullmatch(text):
            hint = _meant(text) if text.strip("*") else _EXAMPLE
            message = f"`{text}` is no `module:function`, and no `module:*`"
            yield error("CZ331", message, node.span, hint)
