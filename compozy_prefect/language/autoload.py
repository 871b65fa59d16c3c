"""The project's `autoload` block → the files its patterns find, as components by type and id.

language.md §10.6 rules. The project's directory is walked once, and only where a pattern may
still lead; nothing outside it is read. A file is known by its real path, so that links and
overlapping patterns find it once, and what is found is sorted by that path: neither the order of
the file system nor that of the patterns shows.

What is wrong with the block is an error. What is wrong with a file is one only if the block is
`strict`; else the file is skipped with a warning. The types of the block's fields are checked with
the rest of the project's; what has another is passed over here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from collections.abc import Mapping as AnyMapping
from fnmatch import translate
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

from compozy_prefect.diagnostics import Diagnostic, SourceText, Span, error, warning
from compozy_prefect.language.directives import DIRECTIVES
from compozy_prefect.language.names import nearest, suggest
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence
from compozy_prefect.language.source import read

KINDS = (
    "agent",
    "embedder",
    "knowledge_base",
    "mcp",
    "memory",
    "model",
    "project",
    "schema",
    "task",
    "tool",
    "vectordb",
    "workflow",
)
MAX_ENTRIES = 50_000  # directory entries looked at
MAX_PATTERNS = 200  # of `include` and of `exclude`, with `{a,b}` written out …
MAX_LENGTH = 1000  # … and characters of one

_FIELDS = ("enabled", "strict", "include", "exclude", "watch_enabled")
_DIRECTORIES = {
    "agents": "agent",
    "mcps": "mcp",
    "memories": "memory",
    "memory": "memory",
    "models": "model",
    "schemas": "schema",
    "tasks": "task",
    "tools": "tool",
    "workflows": "workflow",
}
_YAML = (".yaml", ".yml")
TESTS = (".test.yaml", ".test.yml")  # what `compozy test` runs, and what is no part of a project
_BRACES = re.compile(r"\{([^{}]*)\}")  # the innermost
_ALWAYS_EXCLUDED = (
    *("**/.#*", "**/*~", "**/*.bak", "**/*.swp", "**/*.tmp", "**/._*"),
    *(f"**/*{suffix}" for suffix in TESTS),
)
_NEVER_ENTERED = {".git", ".hg", ".svn", ".tox", ".venv", "__pycache__", "node_modules"}


class Component(NamedTuple):
    """What one autoloaded file holds.

    `kind` is one of `KINDS`; `id` is as written, without blanks around it. `root` has `resource`
    (in lower case) and `id`, also where the file leaves them to be inferred. `document` is the
    name of the file, relative to the project and with forward slashes.
    """

    kind: str
    id: str
    document: str
    path: Path
    root: Mapping

    @property
    def key(self) -> tuple[str, str]:
        """What no two components share, and `resource::` finds it by."""
        return self.kind, self.id.lower()

    @property
    def is_workflow(self) -> bool:
        return self.kind == "workflow"


class Autoloaded(NamedTuple):
    """The components sorted by document, and the text and faults of every file that was read."""

    components: tuple[Component, ...]
    sources: dict[str, SourceText]
    diagnostics: list[Diagnostic]


def autoload(
    directory: Path,
    project: Mapping,
    *,
    listed: Collection[str],
    taken: AnyMapping[tuple[str, str], str],
) -> Autoloaded:
    """What `autoload` of the project file `project` finds below `directory`.

    `listed` has the real paths of files that belong to the project anyway; they are passed over.
    `taken` names the documents of components that are there already, by their key.
    """
    out = Autoloaded((), {}, [])
    block = project.get("autoload")
    if not isinstance(block, Mapping) or not _switched_on(block, out.diagnostics):
        return out
    include, exclude = (_patterns(block, name, out.diagnostics) for name in ("include", "exclude"))
    exclude += [_Pattern(None, text) for text in _ALWAYS_EXCLUDED]
    strict = block.get("strict")
    lenient = isinstance(strict, Scalar) and strict.value is False
    search = _Search(directory, include, exclude, lenient, out)
    found = search.files()
    documents = dict(taken)
    components: list[Component] = []
    for path in sorted(found.keys() - set(listed)):
        component = search.component(path, found[path])
        if component is None:
            continue
        first = documents.setdefault(component.key, component.document)
        if first == component.document:
            components.append(component)
        else:
            search.duplicate(component, first)
    return out._replace(components=tuple(components))


# --- the block ------------------------------------------------------------------------------------


def _switched_on(block: Mapping, found: list[Diagnostic]) -> bool:
    enabled, include = block.get("enabled"), _given(block, "include")
    if isinstance(enabled, Scalar) and enabled.value is not True:
        return False
    parts: list[Node] = [block, *block.entries.values()]
    parts += (item for part in parts if isinstance(part, Sequence) for item in part.items)
    for node in parts:
        if isinstance(node, Mapping) and DIRECTIVES.keys() & node.entries.keys():
            problem = "`autoload` is read before any reference is resolved"
            found.append(error("CZ111", problem, node.span, "write the value out"))
            return False
    if not isinstance(enabled, Scalar):
        return False
    if include is None or (isinstance(include, Sequence) and not include.items):
        near = nearest("include", (name for name in block.entries if name not in _FIELDS))
        span = block.key_span(near or ("include" if block.get("include") else "enabled"))
        hint = f"is `{near}` meant to be `include`?" if near else None
        hint = hint or 'write for example `include: ["agents/**/*.yaml"]`'
        problem = "`autoload` is switched on and needs patterns in `include`"
        found.append(error("CZ111", problem, span, hint))
        return False
    return True


class _Pattern(NamedTuple):
    node: Scalar | None  # where it is written; None of those that are built in
    text: str


def _patterns(block: Mapping, name: str, found: list[Diagnostic]) -> list[_Pattern]:
    given = block.get(name)
    out: list[_Pattern] = []
    for node in given.items if isinstance(given, Sequence) else ():
        if not isinstance(node, Scalar) or node.kind not in ("text", "number"):
            continue
        problem, hint = _refused(node.text)
        if problem:
            found.append(error("CZ111", problem, node.span, hint))
            continue
        out += (_Pattern(node, text) for text in _alternatives(node.text))
        if len(out) > MAX_PATTERNS:
            problem = f"`{name}` has more than {MAX_PATTERNS} patterns, with {{a,b}} written out"
            found.append(error("CZ111", problem, node.span, "`**` and `*` say more with fewer"))
            return out[:MAX_PATTERNS]
    return out


def _refused(text: str) -> tuple[str, str | None]:
    """What is wrong with a pattern, and what would be right."""
    shown = text if len(text) <= 60 else text[:60] + "…"
    relative = "patterns are relative to the project directory, as in `agents/**/*.yaml`"
    if not text.strip():
        return "the pattern is empty", relative
    if len(text) > MAX_LENGTH:
        return f"the pattern is longer than {MAX_LENGTH:,} characters", None
    if "\0" in text:
        return "a pattern cannot hold a NUL character", None
    if "\\" in text:
        return f'"{shown}" has a backslash', "write `/` between directories, `[*]` for a `*`"
    for alternative in _alternatives(text):
        if alternative.startswith("/") or re.match("[A-Za-z]:", alternative):
            return f'"{shown}" is an absolute path', relative
        if ".." in alternative.split("/"):
            return f'"{shown}" leads upwards by `..` (PATH_TRAVERSAL_ATTEMPT)', relative
    return "", None


def _alternatives(text: str) -> list[str]:
    """`a.{yaml,yml}` → `a.yaml`, `a.yml`; one more than is allowed at most."""
    out: list[str] = []
    todo = [text]
    while todo and len(out) <= MAX_PATTERNS:
        text = todo.pop()
        group = _BRACES.search(text)
        if group is None:
            out.append(text)
        else:
            before, after = text[: group.start()], text[group.end() :]
            todo += (before + choice + after for choice in group[1].split(","))
    return out


# --- the walk -------------------------------------------------------------------------------------

# Patterns are followed one name at a time, as a finite automaton: a state is a pattern and how
# many of its steps are behind. Where no state is left, nothing below can match, and the walk need
# not go there. (pathlib has no match with `**` before Python 3.13, and glob walks once a pattern.)
_States = frozenset[tuple[int, int]]


class _Globs:
    """Patterns by their steps, split at `/`: what a name must match, or None for a `**`."""

    def __init__(self, patterns: Iterable[_Pattern]) -> None:
        self.steps = [_steps(pattern.text) for pattern in patterns]
        self.start: _States = frozenset((which, 0) for which in range(len(self.steps)))
        # How many steps are behind when only `**` is left.
        self.ends = [len(steps) - (steps[-1:] == [None]) for steps in self.steps]

    def enter(self, states: _States, name: str) -> _States:
        """The states below `name`."""
        below = set()
        for which, at in states:
            steps = self.steps[which]
            while at < len(steps) and steps[at] is None:  # `**` takes the name, or ends before it
                below.add((which, at))
                at += 1
            if at < len(steps) and (step := steps[at]) is not None and step.match(name):
                below.add((which, at + 1))
        return frozenset(below)

    def ended(self, states: _States) -> _States:
        """Those of the patterns that match here; a `**` at their end may stand for nothing."""
        return frozenset((which, at) for which, at in states if at >= self.ends[which])

    def everything(self, states: _States) -> bool:
        """Whether some pattern takes all that is below."""
        return any(at < len(self.steps[which]) for which, at in self.ended(states))


def _steps(pattern: str) -> list[re.Pattern[str] | None]:
    names = (name for name in pattern.split("/") if name not in ("", "."))
    out: list[re.Pattern[str] | None] = []
    for name, same in groupby(names):
        if name == "**":
            out.append(None)
        else:  # fnmatch knows `[!a]` only
            out += [re.compile(translate(name.replace("[^", "[!"))) for _ in same]
    return out


class _Search:
    """One search for files, and the one place that knows how serious a bad file is."""

    def __init__(
        self,
        directory: Path,
        include: list[_Pattern],
        exclude: list[_Pattern],
        lenient: bool,
        out: Autoloaded,
    ) -> None:
        self.root = os.path.realpath(directory)
        self.patterns = include
        self.include = _Globs(include)
        self.exclude = _Globs(exclude)
        self.lenient = lenient
        self.out = out

    def files(self) -> dict[str, Span]:
        """The real paths of the files that are meant, each with the place of its pattern.

        None of them if there is too much to look at: what part of it came first is chance.
        """
        found: dict[str, Span] = {}
        left = MAX_ENTRIES
        todo = [(self.root, self.include.start, self.exclude.start)] if self.patterns else []
        seen = set(todo)  # a link may lead in circles, or where the walk has been
        while todo:
            directory, live, out = todo.pop()
            names = self._names(directory, live, left + 1)
            left -= len(names)
            if left < 0:
                self._too_much(live)
                return {}
            for name in names:
                here, gone = self.include.enter(live, name), self.exclude.enter(out, name)
                if not here or self.exclude.everything(gone):
                    continue
                path = os.path.join(directory, name)
                if os.path.isdir(path):
                    link = os.path.islink(path)
                    if name in _NEVER_ENTERED or (link and self._excluded(name, gone)):
                        continue
                    step = (self._inside(path, self._span(here)), here, gone)
                    if step[0] and step not in seen:
                        seen.add(step)
                        todo.append(step)
                elif name.endswith(_YAML) and not self._excluded(name, gone):
                    ended = self.include.ended(here)
                    span = self._span(ended) if ended else None
                    if span and (real := self._inside(path, span)):
                        found[real] = min(span, found.get(real, span))
        return found

    def _names(self, directory: str, live: _States, most: int) -> list[str]:
        try:
            with os.scandir(directory) as entries:
                return sorted(entry.name for entry in islice(entries, most))
        except OSError as failure:
            problem = f'the directory "{self._name(directory)}" cannot be read: {_reason(failure)}'
            self._report("CZ108", problem, self._span(live))
            return []

    def _excluded(self, name: str, gone: _States) -> bool:
        basename = self.exclude.enter(self.exclude.start, name)
        return bool(self.exclude.ended(gone) or self.exclude.ended(basename))

    def _inside(self, path: str, pattern: Span) -> str:
        """The real path, or nothing if it is not in the project."""
        if not os.path.islink(path):
            return path  # in a directory whose path is real
        real = os.path.realpath(path)
        if real == self.root or real.startswith(self.root.rstrip(os.sep) + os.sep):
            return real
        self._report(
            "CZ108",
            f'"{self._name(path)}" is a symbolic link that leads outside the project directory '
            "(PATH_TRAVERSAL_ATTEMPT)",
            pattern,
            "a project is one directory: copy what it needs into it, or `exclude` the link",
        )
        return ""

    def _too_much(self, states: _States) -> None:
        self.out.diagnostics.append(
            error(
                "CZ111",
                f"more than {MAX_ENTRIES:,} files and directories may match; nothing is autoloaded",
                self._span(states),
                "begin the patterns with a directory, as in `agents/**/*.yaml`, "
                "or `exclude` large ones, as in `data/**`",
            )
        )

    def _span(self, states: _States) -> Span:
        """The place of the first of these patterns."""
        node = self.patterns[min(which for which, _ in states)].node
        assert node is not None
        return node.span

    def _name(self, path: str) -> str:
        name = path[len(self.root) :].strip(os.sep).replace(os.sep, "/") or "."
        # A name that is no UTF-8 has surrogates in it, which cannot be printed.
        return os.fsencode(name).decode("utf-8", "backslashreplace")

    def _report(self, code: str, message: str, span: Span, hint: str | None = None) -> None:
        severity = warning if self.lenient else error
        self.out.diagnostics.append(severity(code, message, span, hint))

    # Files ----------------------------------------------------------------------------------------

    def component(self, real: str, pattern: Span) -> Component | None:
        """What is in the file. Faults of its text do not hide it where they refuse the project."""
        name, path = self._name(real), Path(real)
        try:
            root, problems, text = read(path, name)
        except OSError as failure:
            problem = f'"{name}" cannot be read: {_reason(failure)}'
            if isinstance(failure, FileNotFoundError):
                problem = f'"{name}" does not exist, and a symbolic link leads to it'
            self._report("CZ108", problem, pattern)
            return None
        self.out.sources[name] = text
        for fault in problems:
            message = f"{fault.message} (PARSE_ERROR)"
            self._report(fault.code, message, fault.span or pattern, fault.hint)
        if not isinstance(root, Mapping) or (problems and self.lenient):
            return None
        inferred = _kind_by_directory(name)
        kind = self._kind(root, inferred)
        key = "id"
        if _given(root, "id") is None and (inferred or kind == "workflow"):
            key = "name" if _given(root, "name") is not None else "id"
        id_ = self._id(root, key, kind or "file", name)
        if kind is None or id_ is None:
            return None
        root = _with(root, "resource", kind, _given(root, "resource") or _first(root))
        root = _with(root, "id", id_, _given(root, key) or _first(root))
        return Component(kind, id_, name, path, root)

    def duplicate(self, component: Component, first: str) -> None:
        kind, id_, document = component.kind, component.id, component.document
        self._report(
            "CZ113",
            f'{first} and {document} both are the {kind} "{id_}" (DUPLICATE_CONFIG)',
            component.root.at("id").span,
            "rename or exclude one of them; capitals do not tell ids apart",
        )

    def _kind(self, root: Mapping, inferred: str | None) -> str | None:
        given = _given(root, "resource")
        if given is None:
            if inferred is None and _given(root, "tasks") is not None:
                return "workflow"
            if inferred is None:
                self._report(
                    "CZ112",
                    "an autoloaded file says what it is, and this one has no `resource` "
                    "(MISSING_RESOURCE_FIELD)",
                    _first(root).span,
                    "write for example `resource: agent`, or move the file below agents/",
                )
            return inferred
        if not isinstance(given, Scalar) or not isinstance(given.value, str):
            problem = f"`resource` must be text, not a {given.kind} (INVALID_RESOURCE_FIELD)"
            self._report("CZ112", problem, given.span, f"it is one of {', '.join(KINDS)}")
            return None
        kind = given.value.strip().lower()
        if kind in KINDS:
            return kind
        problem = f'"{given.value}" is no type of resource (INVALID_RESOURCE_FIELD)'
        hint = suggest(kind, KINDS, what="the types are", limit=len(KINDS))
        self._report("CZ112", problem, given.span, hint)
        return None

    def _id(self, root: Mapping, key: str, what: str, document: str) -> str | None:
        given = _given(root, key)
        if given is None:
            stem = document.rpartition("/")[2].rpartition(".")[0]
            problem = f"an autoloaded {what} needs an `id` (MISSING_ID_FIELD)"
            self._report("CZ112", problem, _first(root).span, f"write for example `id: {stem}`")
        elif not isinstance(given, Scalar) or not isinstance(given.value, str):
            problem = f"`{key}` must be text, not a {given.kind} (INVALID_ID_FIELD)"
            hint = f'quote it: `{key}: "{given.text}"`' if isinstance(given, Scalar) else None
            self._report("CZ112", problem, given.span, hint)
        elif not given.value.strip():
            self._report("CZ112", f"`{key}` is empty (EMPTY_ID)", given.span)
        else:
            return given.value.strip()
        return None


def _kind_by_directory(document: str) -> str | None:
    """The type that the nearest directory of a conventional name stands for."""
    directories = reversed(document.split("/")[:-1])
    return next((_DIRECTORIES[name] for name in directories if name in _DIRECTORIES), None)


def _given(root: Mapping, name: str) -> Node | None:
    """The value of a key; a key without a value counts as missing."""
    node = root.get(name)
    return None if isinstance(node, Scalar) and node.value is None else node


def _first(root: Mapping) -> Node:
    return next(iter(root.keys.values()), root)


def _with(root: Mapping, name: str, value: str, at: Node) -> Mapping:
    """`root` with a value that the file leaves out or writes otherwise, placed where `at` is."""
    written = root.get(name)
    if isinstance(written, Scalar) and written.value == value:
        return root
    scalar = Scalar(root.file, at.start, at.end, value, "plain")
    key = root.keys.get(name) or Scalar(root.file, at.start, at.end, name, "plain")
    entries, keys = root.entries | {name: scalar}, root.keys | {name: key}
    return Mapping(root.file, root.start, root.end, entries, keys)


def _reason(failure: OSError) -> str:
    return (failure.strerror or str(failure)).lower()
