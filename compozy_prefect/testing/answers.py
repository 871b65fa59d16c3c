"""The `mocks` of test files and cases → one map a case, in the form of `runtime.mocks`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compozy_prefect.compiler.compile import CompiledProject
from compozy_prefect.diagnostics import Diagnostic, SourceText, Span, error, has_errors, warning
from compozy_prefect.language import misfits, nodes
from compozy_prefect.language.models.suite import Case, Suite, Surroundings
from compozy_prefect.language.source import read as parse
from compozy_prefect.runtime.mocks import Mocks, MocksInvalid
from compozy_prefect.testing.find import Tests

Data = Mapping[str, Any]

# How deep the parts of mocks are laid over each other: below are answers, which replace others.
_DEPTH = {"agents": 2, "tools": 1, "blocks": 2}


class Answers:
    """Reads the mocks of test files, each once, and reports into `found` what is wrong there."""

    def __init__(
        self,
        tests: Tests,
        project: CompiledProject,
        found: list[Diagnostic],
        sources: dict[str, SourceText],
    ) -> None:
        self._tests, self._project = tests, project
        self._found, self._sources = found, sources
        self._known: dict[object, Data | None] = {}

    def laid_over(self, suite: Suite, case: Case, folder: Path) -> Data | None:
        """The mocks of a case, with those of its file where it has none; None without any."""
        layers = [self._layer(part, folder) for part in (suite, case)]
        under, over = layers
        if under is None or over is None:
            return over if under is None else under
        names = under.keys() | over.keys()
        return {
            name: _merged(under.get(name), over.get(name), _DEPTH.get(name, 0)) for name in names
        }

    def _layer(self, part: Surroundings, folder: Path) -> Data | None:
        node = part.node.get("mocks") if part.mocks is not None else None
        if node is None:
            return None
        if isinstance(node, nodes.Mapping):
            if id(node) not in self._known:
                self._known[id(node)] = self._checked(node, node.source.name)
            return self._known[id(node)]
        file = folder / str(part.mocks)
        if file not in self._known:
            self._known[file] = self._of_file(file, node.span)
        return self._known[file]

    def _of_file(self, file: Path, span: Span) -> Data | None:
        name = self._tests.name(file)
        try:
            root, found, source = parse(file, name, any_root=True)
        except (OSError, ValueError) as fault:  # a NUL in the path is a ValueError
            reason = (getattr(fault, "strerror", None) or str(fault)).lower()
            self._found.append(error("CZ704", f'"{name}" cannot be read: {reason}', span))
            return None
        self._sources[name] = source
        self._found += found
        return None if root is None or has_errors(found) else self._checked(root, name)

    def _checked(self, node: nodes.Node, name: str) -> Data | None:
        """The mocks at a node; None after the diagnostic that says why they are none."""
        data = node.data()
        try:
            mocks = Mocks.from_mapping(data, source=name)
        except MocksInvalid as fault:
            message = f"these mocks cannot be read: {_where(fault.path)}{fault.said}"
            self._found.append(error("CZ704", message, _place(node, fault.path)))
            return None
        project = self._project
        for stranger in mocks.unknown(*project.known):
            self._found.append(warning("CZ704", stranger.message, _place(node, stranger.path)))
        return dict(data or {})


def _merged(under: Any, over: Any, depth: int) -> Any:
    if not depth or not isinstance(under, Mapping) or not isinstance(over, Mapping):
        return under if over is None else over
    return {**under, **{k: _merged(under.get(k), v, depth - 1) for k, v in over.items()}}


def _where(path: tuple[str | int, ...]) -> str:
    names = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in path)
    return f"`{names[1:]}` " if names else "the file "


def _place(node: nodes.Node, path: tuple[str | int, ...]) -> Span:
    """The key at the end of a path, or the value where there is none."""
    holder = node.at(*path[:-1])
    if path and isinstance(holder, nodes.Mapping) and str(path[-1]) in holder.keys:
        return holder.key_span(str(path[-1]))
    return misfits.head(node.at(*path))
