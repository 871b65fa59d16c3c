"""A path → the documents of the project: the project file, workflows, what it autoloads, `.env`.

Which files belong to a project is language.md §1.1, §1.3 and §10.6; what is in them is not looked
at here beyond `workflows`, `tasks` and what names a file. Nothing outside the project's directory
is read, and what cannot be read is a diagnostic at the `source:` or pattern that leads to it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from compozy_prefect.diagnostics import Diagnostic, SourceText, Span, error, warning
from compozy_prefect.errors import UsageError
from compozy_prefect.language.autoload import TESTS, Component, autoload
from compozy_prefect.language.dotenv import read_env
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence
from compozy_prefect.language.source import MAX_BYTES, read

PROJECT_FILES = ("compozy.yaml", "compozy.yml")
_YAML = (".yaml", ".yml")
_TASK_SETTINGS = frozenset({"retry", "stream", "wait"})
_MAX_SEARCHED = 2000  # directory entries looked at for the name of a missing file


class Document(NamedTuple):
    """One file of the project. `name` is relative to the root, with forward slashes."""

    name: str
    path: Path
    root: Mapping
    is_workflow: bool


@dataclass(frozen=True, slots=True)
class Discovery:
    """What stands in the project's directory.

    `project` is None when its file could not be parsed. `workflows` are the documents to read
    as workflows, in the order they are listed, and after them those that autoload found, sorted by
    name; a project file with `tasks` is the first of them. A workflow that could not be read is
    missing here and has a diagnostic. `components` is everything else that autoload found, sorted
    by name, and `registry` the same by (resource type, id), both in lower case. `sources` has
    every text that a span may point into, by name.
    """

    root: Path
    project: Document | None = None
    workflows: tuple[Document, ...] = ()
    components: tuple[Component, ...] = ()
    registry: dict[tuple[str, str], Mapping] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    sources: dict[str, SourceText] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)


def discover(path: Path, *, env_file: Path | None = None) -> Discovery:
    """`path` is a project directory or a YAML file; `.env` stands beside the project file.

    Raises `UsageError` when there is nothing to start from: no such path, no project file in
    the directory, no such `env_file`.
    """
    project_path = _project_path(path)
    found = Discovery(project_path.parent)
    found.env.update(_environment(found, env_file))
    try:
        root, problems, text = read(project_path, project_path.name)
    except OSError as failure:
        raise UsageError(f"{project_path} cannot be read: {_reason(failure)}") from None
    found.sources[text.name] = text
    found.diagnostics.extend(problems)
    if not isinstance(root, Mapping):
        return found
    is_workflow = _has_steps(root)
    project = Document(text.name, project_path, root, is_workflow)
    known: dict[str, Span | None] = {os.path.realpath(project.path): None}
    workflows = ([project] if is_workflow else []) + list(_workflows(found, project, known))
    components = _autoloaded(found, project, workflows, known)
    workflows += (Document(c.document, c.path, c.root, True) for c in components if c.is_workflow)
    others = tuple(component for component in components if not component.is_workflow)
    return replace(
        found,
        project=project,
        workflows=tuple(workflows),
        components=others,
        registry={component.key: component.root for component in others},
    )


# --- the project file -----------------------------------------------------------------------------


def _project_path(path: Path) -> Path:
    if not os.path.lexists(path):
        raise UsageError(f"there is no file or directory {path}{_did_you_mean(path)}")
    if not path.is_dir():
        if not path.exists():
            raise UsageError(f"{path} is a symbolic link to something that does not exist")
        if path.name.endswith(TESTS):
            raise UsageError(f"{path} holds tests; `compozy test {path}` runs them")
        return path
    for name in PROJECT_FILES:
        if os.path.lexists(path / name):
            return path / name
    here = sorted(p.name for p in _listing(path) if _is_yaml(p.name))
    known = f"; it has {', '.join(here[:5])}, which can be given by name" if here else ""
    raise UsageError(f"there is no compozy.yaml in {path}{known}")


def _did_you_mean(path: Path) -> str:
    near = nearest(path.name, (p.name for p in _listing(path.parent)))
    return f"; did you mean {path.parent / near}?" if near else ""


def _listing(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())[:_MAX_SEARCHED]
    except OSError:
        return []


def _has_steps(root: Mapping) -> bool:
    """Whether `tasks` are steps, or what should be; a map of settings is another thing (§1.4)."""
    tasks = root.get("tasks")
    if isinstance(tasks, Mapping) and tasks.entries:
        return not _TASK_SETTINGS.issuperset(tasks.entries)
    return tasks is not None


# --- workflows ------------------------------------------------------------------------------------


def _workflows(
    found: Discovery, project: Document, known: dict[str, Span | None]
) -> Iterator[Document]:
    """The listed workflow files; `known` gets the real path of each and where it is listed.

    Their shape (§1.1: strings, maps with `source`) is checked with the rest of the project's; what
    is neither is passed over here.
    """
    listed = project.root.get("workflows")
    if not isinstance(listed, Sequence):
        return
    for item in listed.items:
        source = item.get("source") if isinstance(item, Mapping) else item
        if not isinstance(source, Scalar) or not isinstance(source.value, str):
            continue
        real, problem = _locate(found.root, source.value)
        if real is None:
            found.diagnostics.append(_unreadable(found.root, source, problem))
            continue
        if real in known:
            found.diagnostics.append(_listed_twice(source, known[real]))
            continue
        known[real] = source.span
        document = _document(found, source, real)
        if document is not None:
            yield document


def within(root: Path, path: str) -> str | None:
    """The real path of one that counts from `root`; None for one that leads out of it.

    Whether there is such a file is not said.
    """
    inside = os.path.realpath(root)
    try:
        real = os.path.realpath(os.path.join(inside, path))
    except (OSError, ValueError):  # a NUL character
        return None
    return real if real == inside or real.startswith(inside.rstrip(os.sep) + os.sep) else None


def _locate(root: Path, source: str) -> tuple[str | None, str]:
    """The real path of a file inside `root`; or None and what is wrong with it."""
    if not source.strip():
        return None, "the path of the workflow file is empty"
    if "\0" in source:
        return None, "a path cannot hold a NUL character"
    real = within(root, source)
    if real is None:
        return None, f'"{source}" leads outside the project directory'
    if source.endswith(TESTS):
        return None, f'"{source}" holds tests, and no workflow'
    try:
        if os.path.isdir(real):
            return None, f'"{source}" is a directory'
        os.stat(real)
    except FileNotFoundError:
        if os.path.islink(os.path.join(root, source)):
            return None, f'"{source}" is a symbolic link to a file that does not exist'
        return None, f'there is no file "{source}"'
    except OSError as failure:
        return None, f'"{source}" cannot be read: {_reason(failure)}'
    return real, ""


def _document(found: Discovery, source: Scalar, real: str) -> Document | None:
    name = os.path.relpath(real, os.path.realpath(found.root)).replace(os.sep, "/")
    try:
        root, problems, text = read(Path(real), name)
    except OSError as failure:
        problem = f'"{source.value}" cannot be read: {_reason(failure)}'
        found.diagnostics.append(error("CZ108", problem, source.span))
        return None
    found.sources[name] = text
    found.diagnostics.extend(problems)
    return Document(name, Path(real), root, True) if isinstance(root, Mapping) else None


def _autoloaded(
    found: Discovery, project: Document, workflows: list[Document], known: Collection[str]
) -> tuple[Component, ...]:
    taken: dict[tuple[str, str], str] = {}
    for document in workflows:
        identity = document.root.get("id") or document.root.get("name")
        if isinstance(identity, Scalar):
            taken["workflow", identity.text.strip().lower()] = document.name
    loaded = autoload(found.root, project.root, listed=known, taken=taken)
    found.sources.update(loaded.sources)
    found.diagnostics.extend(loaded.diagnostics)
    return loaded.components


def _unreadable(root: Path, source: Scalar, problem: str) -> Diagnostic:
    wanted = str(source.value)
    hint = None
    if problem.startswith("there is no file"):
        hint = _nearest_file(root, wanted)
        if any(c in wanted for c in "*?["):
            hint = "a source is one file; `autoload.include` takes patterns"
    elif problem.endswith("is a directory"):
        hint = "list the files one by one, or use `autoload.include`"
    elif "outside" in problem:
        hint = "a project is one directory: copy the file into it"
    return error("CZ108", problem, source.span, hint)


def _listed_twice(source: Node, first: Span | None) -> Diagnostic:
    if first is None:
        return error("CZ109", "the project file cannot list itself as a workflow", source.span)
    where = f"first in line {first.line}"
    return error("CZ109", f"this file is listed twice, {where}", source.span, "remove one of them")


def _is_yaml(name: str) -> bool:
    return name.endswith(_YAML) and not name.endswith(TESTS)


def _nearest_file(root: Path, wanted: str) -> str | None:
    """The YAML file of the project whose path, or else whose name, comes nearest."""
    paths = sorted(_yaml_files(root))
    near = nearest(os.path.normpath(wanted).replace(os.sep, "/"), paths)
    if near is None:
        by_name = {p.rpartition("/")[2]: p for p in reversed(paths)}
        name = nearest(wanted.rpartition("/")[2], by_name)
        near = by_name[name] if name else None
    return f'did you mean "{near}"?' if near else None


def _yaml_files(root: Path) -> Iterator[str]:
    left = _MAX_SEARCHED
    for directory, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "node_modules")
        left -= len(files) + 1
        if left < 0:
            return
        for file in files:
            if _is_yaml(file):
                yield os.path.relpath(os.path.join(directory, file), root).replace(os.sep, "/")


# --- .env -----------------------------------------------------------------------------------------


def _environment(found: Discovery, env_file: Path | None) -> dict[str, str]:
    path = env_file if env_file is not None else found.root / ".env"
    if env_file is None and not os.path.lexists(path):
        return {}
    try:
        if not path.is_file():
            raise OSError("it is not a regular file" if path.exists() else "it does not exist")
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as failure:
        problem = f"{path} cannot be read: {_reason(failure)}"
        if env_file is not None:
            raise UsageError(problem) from None
        found.diagnostics.append(warning("CZ110", problem))
        return {}
    name = _name(path, found.root)
    try:
        text = SourceText(name, raw[:MAX_BYTES].decode("utf-8-sig"))
    except UnicodeDecodeError:
        found.diagnostics.append(warning("CZ110", f"{name} is not UTF-8 and is ignored"))
        return {}
    env, problems = read_env(text)
    found.sources[name] = text
    found.diagnostics.extend(problems)
    return env


def _name(path: Path, root: Path) -> str:
    relative = os.path.relpath(path, root)
    return str(path) if relative.startswith("..") else relative.replace(os.sep, "/")


def _reason(failure: OSError) -> str:
    return (failure.strerror or str(failure)).lower()
