"""A reference → the node it leads to, as it is written.

Which document a scope means, what `global::models` adds, how a path is followed, and what is said
when it leads nowhere: language.md §10.1, §10.2. What the node stands for, if it is a directive
itself, is the resolver's to find out.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as AnyMapping
from typing import NamedTuple

from compozy_prefect.diagnostics import Diagnostic, warning
from compozy_prefect.language import directives, selectors
from compozy_prefect.language.directives import Broken, Reference
from compozy_prefect.language.nodes import File, Mapping, Node, Scalar, Sequence

_DOCUMENTS = {
    "local": "this file",
    "global": "the project file",
    "resource": "the autoloaded file",
}


class Scopes(NamedTuple):
    """What `local::`, `global::` and `resource::` look into.

    `global_` is None in a project of one file: there `global::` is that file too (§1.3). The
    registry's keys are (type, id) in lower case; None means that nothing is autoloaded.
    """

    local: Mapping
    global_: Mapping | None = None
    registry: AnyMapping[tuple[str, str], Mapping] | None = None


class Lookup:
    """Finds nodes; `enter` says what a map on the way of a path stands for.

    What leads nowhere is raised as `Broken`; warnings are added to `found`.
    """

    def __init__(
        self, scopes: Scopes, enter: Callable[[Node], Node], found: list[Diagnostic]
    ) -> None:
        self.scopes = scopes
        self.enter = enter
        self.found = found
        self.models: dict[int, Sequence] = {}
        self.indexes: selectors.Indexes = {}
        self.derived: dict[tuple[int, str], Mapping] = {}
        self.all_documents = False  # whether those of the registry are in, too
        self.documents: dict[int, Mapping] = {id(scopes.local.file): scopes.local}
        if scopes.global_ is not None:
            self.documents[id(scopes.global_.file)] = scopes.global_

    def find(self, reference: Reference) -> Node:
        if reference.scope == "resource":
            root = self._resource(reference)
            if not reference.steps:
                return root
        else:
            root = self._root(reference)
        found = self._select(reference, root)
        if isinstance(found, selectors.Miss):
            derived = self._derived_model(reference, found)
            if derived is None:
                raise self._not_found(reference, found)
            root, rest = derived
            if not rest:
                return root
            found = selectors.select(rest, root, enter=self.enter, origin=reference.origin)
            if isinstance(found, selectors.Miss):
                raise self._not_found(reference, found)
        return found

    def _select(self, reference: Reference, root: Node) -> Node | selectors.Miss:
        return selectors.select(
            reference.steps,
            root,
            enter=self.enter,
            origin=reference.origin,
            indexes=self.indexes,
        )

    def _root(self, reference: Reference) -> Mapping:
        local = self._document(reference.origin.file)
        if reference.scope == "local":
            return local
        project = self.scopes.global_ or self.scopes.local
        first = reference.steps[0]
        if isinstance(first, selectors.Key) and first.name == "models":
            return self._models(local, project)
        return project

    def _document(self, file: File) -> Mapping:
        known = self.documents.get(id(file))
        if known is None and not self.all_documents:
            self.all_documents = True
            for document in (self.scopes.registry or {}).values():
                self.documents.setdefault(id(document.file), document)
            known = self.documents.get(id(file))
        return known or self.scopes.local

    def _models(self, local: Mapping, project: Mapping) -> Mapping:
        """`global::models` looks at the workflow's models first, then at the project's (§10.2).

        A file of the registry has none as a rule; then the workflow that uses it counts.
        """
        if local is not project and local.get("models") is None:
            local = self.scopes.local
        mine, theirs = local.get("models"), project.get("models")
        if local is project or mine is None or theirs is None:
            return project if mine is None else local
        mine, theirs = self.enter(mine), self.enter(theirs)
        if not isinstance(mine, Sequence) or not isinstance(theirs, Sequence):
            return local
        both = self.models.get(id(local))
        if both is None:
            both = Sequence(mine.file, mine.start, mine.end, mine.items + theirs.items)
            self.models[id(local)] = both
        return Mapping(local.file, local.start, local.end, {"models": both}, {})

    def _resource(self, reference: Reference) -> Mapping:
        kind, name = reference.resource
        registry = self.scopes.registry
        origin = reference.origin
        if not registry:
            hint = "switch `autoload` on in the project file, or use local:: or global::"
            raise Broken("CZ201", "resource:: finds nothing: no file is autoloaded", origin, hint)
        found = registry.get((kind, name))
        if found is not None:
            return found
        kinds = sorted({k for k, _ in registry})
        if kind not in kinds:
            raise Broken(
                "CZ203", f'no "{kind}" is autoloaded', origin, directives.listed(kind, kinds)
            )
        ids = sorted(i for k, i in registry if k == kind)
        raise Broken(
            "CZ201",
            f'no {kind} with id "{name}" is autoloaded',
            origin,
            directives.listed(name, ids),
        )

    def _derived_model(
        self, reference: Reference, miss: selectors.Miss
    ) -> tuple[Mapping, tuple[selectors.Step, ...]] | None:
        """`global::models` by a provider that is declared and a model that is not (§10.2)."""
        steps = reference.steps
        if reference.scope != "global" or len(steps) < 2 or miss.step is not steps[1]:
            return None
        first, query = steps[0], steps[1]
        if not isinstance(first, selectors.Key) or first.name != "models":
            return None
        if not isinstance(query, selectors.Query) or query.every or len(query.tests) != 1:
            return None
        wanted = {t.path: t for t in query.tests[0] if t.op == "==" and len(t.path) == 1}
        provider, model = wanted.get(("provider",)), wanted.get(("model",))
        if provider is None or model is None or not isinstance(miss.node, Sequence):
            return None
        others = tuple(t for t in query.tests[0] if t is not model)
        relaxed = selectors.Query((others,), False, query.start, query.end)
        entry = next(
            (m for m in miss.node.items if selectors.matches(relaxed, m, self.enter)), None
        )
        entry = entry if entry is None else self.enter(entry)
        if not isinstance(entry, Mapping):
            return None
        name = str(model.literal)
        origin = reference.origin
        declared = entry.get("model")
        shown = declared.text if isinstance(declared, Scalar) else "none"
        self.found.append(
            warning(
                "CZ206",
                f'no model of {provider.literal} is called "{name}"; "{shown}" is taken with '
                "its name replaced",
                reference.step_span(query),
                f"declare {{provider: {provider.literal}, model: {name}}} in `models`",
            )
        )
        derived = self.derived.get((id(entry), name))
        if derived is None:
            replaced = Scalar(origin.file, origin.start, origin.end, name, "plain")
            key = entry.keys.get("model", origin)
            derived = Mapping(
                entry.file,
                entry.start,
                entry.end,
                entry.entries | {"model": replaced},
                entry.keys | {"model": key},
            )
            self.derived[id(entry), name] = derived
        return derived, steps[2:]

    # Messages -------------------------------------------------------------------------------------

    def _not_found(self, reference: Reference, miss: selectors.Miss) -> Broken:
        step, node = miss.step, miss.node
        done = reference.before(step)
        where = f"{reference.scope}::{done}" if done else _DOCUMENTS[reference.scope]
        hint: str | None = None
        if isinstance(step, selectors.Query):
            if isinstance(node, Sequence):
                problem = f"nothing in {where} has {step}"
                test, candidates = self._failing(step, node)
                known = [_text_at(self.enter(item), test.path) for item in candidates]
                names = [name for name in known if name is not None]
                hint = directives.listed(str(test.literal), names)
                if not node.items:
                    hint = "the list is empty"
            else:
                problem = f"{where} is a {node.kind}, not a list to search in"
        elif isinstance(step, selectors.Each):
            problem = f"{where} is a {node.kind}, not a list"
        elif isinstance(node, Mapping):
            problem = f'{where} has no "{step.name}"'
            hint = directives.listed(step.name, node.entries)
        elif isinstance(node, Sequence):
            size = len(node.items)
            problem = f'{where} has no item "{step.name}": it is a list of {size}, counted from 0'
            hint = f'search it with #(id=="{step.name}")'
        else:
            problem = f'{where} is a {node.kind}: it has no "{step.name}"'
        other = self._elsewhere(reference)
        if other is not None:
            hint = f"{other}:: has it: write {other}::{reference.path}"
        return Broken("CZ201", problem, reference.step_span(step), hint)

    def _failing(
        self, query: selectors.Query, node: Sequence
    ) -> tuple[selectors.Test, tuple[Node, ...]]:
        """The first test that no item passes, and the items that pass those in front of it."""
        items = node.items
        for test in query.tests[0]:
            only = selectors.Query(((test,),), True, query.start, query.end)
            passing = tuple(i for i in items if selectors.matches(only, i, self.enter))
            if not passing:
                break
            items = passing
        return test, items

    def _elsewhere(self, reference: Reference) -> str | None:
        """The other scope, if the path leads somewhere there."""
        project = self.scopes.global_
        if project is None or reference.scope not in ("local", "global"):
            return None
        local = self._document(reference.origin.file)
        other, root = ("global", project) if reference.scope == "local" else ("local", local)
        if local is project:
            return None
        found = selectors.select(
            reference.steps, root, enter=lambda node: node, origin=reference.origin
        )
        return None if isinstance(found, selectors.Miss) else other


def _text_at(node: Node, path: tuple[str, ...]) -> str | None:
    found = node.at(*path)
    return found.text if isinstance(found, Scalar) and found is not node else None
