"""A document with `$ref`, `$use` and `$merge` → the same tree with their values in place.

language.md §10.1, §10.2 and §10.4 rule. A directive is looked up in the document where it is
written, whoever refers to the text around it. What has no directive below it is returned as it
is, and what is referenced twice is one node afterwards: nothing is copied but what is merged.
A directive that cannot be resolved has a diagnostic, and stays in the tree as it is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.language import directives
from compozy_prefect.language.directives import DIRECTIVES, Broken, Reference
from compozy_prefect.language.lookup import Lookup, Scopes
from compozy_prefect.language.merge import (
    CONFLICTS,
    LIST_STRATEGIES,
    MAP_STRATEGIES,
    Collision,
    Options,
    merge_lists,
    merge_maps,
)
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence
from compozy_prefect.language.source import MAX_DEPTH

__all__ = ["Scopes", "resolve"]

MAX_NESTED = 240  # levels while resolving, each about two frames of Python's stack …
_PER_REFERENCE, _PER_SEARCH = 2, 7  # … and what a reference, and one inside a search, count as
MAX_VALUES = 1_000_000  # nodes of a resolved document, counted as if references were copies

# Below these keys a `$ref` without a scope is JSON Schema's own (§9).
_SCHEMA_KEYS = frozenset(("schemas", "schema", "input", "output", "properties", "$defs"))

_TOO_DEEP = "references lead to references too many times over"


def resolve(document: Mapping, *, scopes: Scopes) -> tuple[Node, list[Diagnostic]]:
    """The document without directives, and what was wrong with them."""
    resolver = _Resolver(scopes)
    try:
        result = resolver.evaluate(document, 0, False)
    except RecursionError:  # called from so deep a stack that MAX_NESTED was too much
        return document, [*resolver.found, error("CZ103", _TOO_DEEP, document.span)]
    return result.node, resolver.found


class _Result(NamedTuple):
    node: Node
    height: int
    weight: int  # nodes, as if what is shared were copied


_SCALAR_SIZE = (0, 1)


class _Resolver:
    def __init__(self, scopes: Scopes) -> None:
        self.found: list[Diagnostic] = []
        self.lookup = Lookup(scopes, self._enter, self.found)
        # By identity; the first of each pair keeps the node alive, and so its identity unique.
        self.done: dict[int, tuple[Node, _Result]] = {}
        self.active: set[int] = set()  # the identities of what is being resolved
        self.trail: list[str] = []  # the references being followed
        self.level = 0
        self.full = False

    # The walk -------------------------------------------------------------------------------------

    def evaluate(self, node: Node, level: int, schema: bool) -> _Result:
        """What `node` stands for. `schema` says whether it is part of a JSON Schema."""
        if isinstance(node, Scalar):
            return _Result(node, *_SCALAR_SIZE)
        known = self.done.get(id(node))
        if known is not None:
            return known[1]
        if level > MAX_NESTED:
            if not self.full:
                self.full = True
                self._report("CZ103", _TOO_DEEP, node)
            return _Result(node, 0, 1)
        self.active.add(id(node))
        if isinstance(node, Mapping):
            entries = node.entries
            if "$ref" in entries or "$use" in entries or "$merge" in entries:
                result = self._directive(node, level, schema)
            else:
                result = self._map(node, level, schema)
        else:
            assert isinstance(node, Sequence)
            result = self._list(node, level, schema)
        self.active.discard(id(node))
        if result.height > MAX_DEPTH or result.weight > MAX_VALUES:
            result = self._too_much(node, result)
        self.done[id(node)] = (node, result)
        self.done[id(result.node)] = (result.node, result)
        return result

    def _map(self, node: Mapping, level: int, schema: bool) -> _Result:
        height, count = 0, 1
        changed: dict[str, Node] | None = None
        for name, value in node.entries.items():
            if type(value) is Scalar:
                count += 1
                continue
            result = self.evaluate(value, level + 1, schema or name in _SCHEMA_KEYS)
            height = max(height, result.height)
            count += result.weight
            if result.node is not value:
                changed = changed or {}
                changed[name] = result.node
        if changed:
            entries = node.entries | changed
            node = Mapping(node.file, node.start, node.end, entries, node.keys)
        return _Result(node, height + 1, count)

    def _list(self, node: Sequence, level: int, schema: bool) -> _Result:
        height, count = 0, 1
        changed = False
        items = list(node.items)
        for i, item in enumerate(items):
            if type(item) is Scalar:
                count += 1
                continue
            result = self.evaluate(item, level + 1, schema)
            height = max(height, result.height)
            count += result.weight
            if result.node is not item:
                items[i] = result.node
                changed = True
        if changed:
            node = Sequence(node.file, node.start, node.end, tuple(items))
        return _Result(node, height + 1, count)

    def _too_much(self, node: Node, result: _Result) -> _Result:
        if not self.full:
            self.full = True
            what = (
                f"nested more than {MAX_DEPTH} levels deep"
                if result.height > MAX_DEPTH
                else f"more than {MAX_VALUES:,} values"
            )
            self._report("CZ103", f"with what it refers to, this is {what}", node)
        return _Result(node, 0, 1)

    def _sized(self, node: Node) -> _Result:
        """The size of a resolved node, put together from those that are known."""
        if isinstance(node, Scalar):
            return _Result(node, *_SCALAR_SIZE)
        known = self.done.get(id(node))
        if known is None:
            children: Iterable[Node] = ()
            if isinstance(node, Mapping):
                children = node.entries.values()
            elif isinstance(node, Sequence):
                children = node.items
            sizes = [self._sized(child) for child in children]
            height = max((size.height for size in sizes), default=0)
            result = _Result(node, height + 1, 1 + sum(size.weight for size in sizes))
            self.done[id(node)] = known = (node, result)
        return known[1]

    # Directives -----------------------------------------------------------------------------------

    def _directive(self, node: Mapping, level: int, schema: bool) -> _Result:
        present = [name for name in DIRECTIVES if name in node.entries]
        name = present[0]
        value = node.entries[name]
        if schema and self._belongs_to_schema(name, value):
            return self._map(node, level, schema)
        if len(present) > 1:
            both = " and ".join(present)
            key = node.keys[present[1]]
            self._report(
                "CZ205", f"{both} cannot stand in one map", key, "put one inside the other"
            )
            return self._map(node, level, schema)
        try:
            if name == "$merge":
                return self._merge(node, value, level, schema)
            if not isinstance(value, Scalar) or not isinstance(value.value, str):
                raise Broken("CZ202", f"{name} takes text, not a {value.kind}", value)
            if name == "$ref":
                if value.value.startswith(("#", "http://", "https://")):
                    return self._map(node, level, schema)
                reference = directives.parse_ref(value)
                return self._ref(node, name, reference, level, schema)
            return self._use(node, directives.parse_use(value), level, schema)
        except Broken as broken:
            self.found.append(broken.diagnostic)
            return self._map(node, level, schema)

    @staticmethod
    def _belongs_to_schema(name: str, value: Node) -> bool:
        """A property may be called `$ref`, and JSON Schema's own `$ref` has no scope (§9)."""
        if name == "$merge":
            return isinstance(value, Mapping) and "type" in value.entries
        if not isinstance(value, Scalar) or not isinstance(value.value, str):
            return True
        return name == "$ref" and "::" not in value.value

    def _ref(
        self, node: Mapping, name: str, reference: Reference, level: int, schema: bool
    ) -> _Result:
        target = self._follow(reference, level, schema)
        if len(node.entries) == 1:
            return target
        siblings = self._siblings(node, name, level, schema)
        if isinstance(target.node, Scalar) and target.node.value is None:
            return self._sized(siblings)
        if not isinstance(target.node, Mapping):
            key = next(iter(siblings.keys.values()))
            raise Broken(
                "CZ205",
                f"{name} leads to a {target.node.kind}, which cannot be merged with other keys",
                key,
                f"leave out the keys beside {name}, or refer to a map",
            )
        return self._laid_over(target.node, siblings, reference, node)

    def _laid_over(
        self, target: Mapping, siblings: Mapping, reference: Reference, place: Mapping
    ) -> _Result:
        if reference.options.strategy == "replace":
            return self._sized(target)
        try:
            return self._sized(merge_maps((target, siblings), reference.options, place))
        except Collision as collision:
            raise Broken(
                "CZ205",
                f'"{collision.name}" is in the value referred to as well',
                collision.key,
                "`error` forbids it; leave the key out, or merge with <deep,first>",
            ) from None

    def _use(
        self, node: Mapping, use: tuple[str, Scalar, Reference], level: int, schema: bool
    ) -> _Result:
        kind, value, reference = use
        target = self._follow(reference, level, schema)
        if not isinstance(target.node, Mapping):
            raise Broken("CZ202", f"$use: {kind} needs a map, not a {target.node.kind}", value)
        if kind in ("agent", "tool") and target.node.get("id") is None:
            raise Broken("CZ202", f"this is no {kind}: the map it leads to has no `id`", value)
        siblings = self._siblings(node, "$use", level, schema)
        if kind == "task":
            return self._laid_over(target.node, siblings, reference, node)
        used = Mapping(
            node.file, node.start, node.end, {kind: target.node}, {kind: node.keys["$use"]}
        )
        if kind not in siblings.entries:
            # Nothing to merge: every key where it is written, the agent or tool shared.
            entries: dict[str, Node] = {}
            keys: dict[str, Scalar] = {}
            for name in node.entries:
                here = used if name == "$use" else siblings
                name = kind if name == "$use" else name
                entries[name], keys[name] = here.entries[name], here.keys[name]
            if reference.options.strategy != "replace":
                return self._sized(Mapping(node.file, node.start, node.end, entries, keys))
        return self._laid_over(used, siblings, reference, node)

    def _siblings(self, node: Mapping, name: str, level: int, schema: bool) -> Mapping:
        entries = {k: v for k, v in node.entries.items() if k != name}
        keys = {k: v for k, v in node.keys.items() if k != name}
        rest = Mapping(node.file, node.start, node.end, entries, keys)
        resolved = self._map(rest, level, schema).node
        assert isinstance(resolved, Mapping)
        return resolved

    def _merge(self, node: Mapping, value: Node, level: int, schema: bool) -> _Result:
        if len(node.entries) > 1:
            key = next(key for name, key in node.keys.items() if name != "$merge")
            hint = "put the keys into a map of their own, as the last source"
            raise Broken("CZ205", "$merge admits no other keys beside it", key, hint)
        given = self.evaluate(value, level + 1, schema).node
        options = Options()
        kind = None
        if isinstance(given, Mapping):
            kind = directives.merge_options(given)
            options = kind
            sources = given.get("sources")
        else:
            sources = given
        if not isinstance(sources, Sequence):
            shown = "nothing" if sources is None else f"a {sources.kind}"
            hint = "write $merge: [first, second], or $merge: {sources: [first, second]}"
            raise Broken("CZ205", f"$merge takes a list of sources, not {shown}", value, hint)
        if not sources.items:
            raise Broken("CZ205", "$merge has no sources", sources)
        present = [s for s in sources.items if not (isinstance(s, Scalar) and s.value is None)]
        if not present:
            return self._sized(Mapping(node.file, node.start, node.end, {}, {}))
        maps = [s for s in present if isinstance(s, Mapping)]
        lists = [s for s in present if isinstance(s, Sequence)]
        if len(maps) < len(present) and len(lists) < len(present):
            kinds = ", ".join(dict.fromkeys(f"a {s.kind}" for s in present))
            raise Broken("CZ205", f"the sources are all maps or all lists, not {kinds}", value)
        known = MAP_STRATEGIES if maps else LIST_STRATEGIES
        if options.strategy is not None and options.strategy not in known:
            what = "maps" if maps else "lists"
            raise Broken(
                "CZ205",
                f"{what} cannot be merged with the strategy {options.strategy}",
                value,
                f"for {what}: {', '.join(known)}",
            )
        if lists:
            return self._sized(merge_lists(lists, options, node))
        try:
            return self._sized(merge_maps(maps, options, node))
        except Collision as collision:
            problem = f'"{collision.name}" stands in two sources'
            hint = "`key_conflict: error` forbids it"
            raise Broken("CZ205", problem, collision.key, hint) from None

    # Looking up -----------------------------------------------------------------------------------

    def _follow(self, reference: Reference, level: int, schema: bool) -> _Result:
        """The value of a reference, resolved in the scope where it is written."""
        shown = str(reference)
        if reference.ignored:
            ignored = f"the merge option {reference.ignored} is not known and is ignored"
            known = dict.fromkeys(MAP_STRATEGIES + CONFLICTS)
            hint = directives.listed(reference.ignored, known)
            self.found.append(warning("CZ205", ignored, reference.origin.span, hint))
        outer, self.level = self.level, level
        try:
            target = self.lookup.find(reference)
        finally:
            self.level = outer
        if id(target) in self.active:
            start = self.trail.index(shown) if shown in self.trail else 0
            chain = [*self.trail[start:], shown]
            shown_chain = " → ".join(chain if chain[0] == shown else [*chain, chain[0]])
            problem = "these refer to one another"
            if len(chain) == 1:
                problem, shown_chain = "this refers to a value that it is a part of", shown
            raise Broken("CZ204", f"{problem}: {shown_chain}", reference.origin)
        self.trail.append(shown)
        try:
            return self.evaluate(target, level + _PER_REFERENCE, schema)
        finally:
            self.trail.pop()

    def _enter(self, node: Node) -> Node:
        """What a directive on the way of a path stands for; while it is being resolved, itself."""
        if (
            isinstance(node, Mapping)
            and id(node) not in self.active
            and not DIRECTIVES.keys().isdisjoint(node.entries)
        ):
            return self.evaluate(node, self.level + _PER_SEARCH, False).node
        return node

    def _report(self, code: str, message: str, node: Node, hint: str | None = None) -> None:
        self.found.append(error(code, message, node.span, hint))
