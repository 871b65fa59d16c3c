"""Definitions that nothing refers to: a leftover, or a name that is misspelt elsewhere.

A reference is a name (language.md §10.3), a template (`.tools.x`, `validateSchema`), or text that a
directive has brought from the definition (§10.1): every node knows where it is written, so that a
node that stands outside of its parent was referred to. What autoload finds is a library, and may
have more than a project uses.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

from compozy_prefect.compiler.builtins import REACH_AGENTS
from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.places import of_tool, places
from compozy_prefect.compiler.scope import Scope, action_of, memory_references, schema_name
from compozy_prefect.diagnostics import Diagnostic, warning
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse, parse_condition
from compozy_prefect.language.models.agent import Action, Agent
from compozy_prefect.language.models.base import Noun, Selector
from compozy_prefect.language.models.knowledge import Knowledge
from compozy_prefect.language.models.task import BasicTask, MemoryTask, Task
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.nodes import Mapping, Node, Sequence

# Models are left out: a list of them is a catalogue to choose from.
_KINDS = {
    "agents": "agent",
    "tools": "tool",
    "schemas": "schema",
    "mcps": "MCP server",
    "memories": "memory",
    "knowledge_bases": "knowledge base",
}


def unused(project: Project) -> Iterator[Diagnostic]:
    loaded = project.loaded
    if not project.workflows or any(d.severity == "error" for d in loaded.diagnostics):
        return  # what could not be read may refer to anything
    uses = _Uses()
    for checked in project.workflows:
        uses.of(checked)
    holders: dict[int, Noun] = {id(one.scope.workflow): one.scope.workflow for one in project[1]}
    if loaded.project is not None:
        holders[id(loaded.project)] = loaded.project
        uses.knowledge(getattr(loaded.project, "knowledge", None), project.workflows[0].scope)
    left = [found for holder in holders.values() for found in _defined(holder, uses)]
    if left:
        _follow(project, holders.values(), left, uses)
        left = [found for found in left if not uses.has(*found)]
    if any(kind in ("agents", "tools", "schemas", "mcps") for kind, _ in left):
        for checked in project.workflows:
            uses.in_templates(checked)
        left = [found for found in left if not uses.has(*found)]
    for kind, noun in left:
        yield _unused(_KINDS[kind], noun)
    library = {id(one.node.file) for listed in loaded.components.values() for one in listed}
    if "agents" not in uses.unclear:
        for key, (agent, action) in uses.actions.items():
            if key not in uses.asked and key[0] not in library:
                yield warning(
                    "CZ218",
                    f"no task asks for the action `{action.id}` of the agent `{agent.id}`",
                    action.node.at("id").span,
                    "remove it, or name it in the `action` of a task",
                )


def _unused(word: str, noun: Noun) -> Diagnostic:
    name = getattr(noun, "id", None)
    node = noun.node.get("id") or noun.node.get("url") or noun.node
    called = f"the {word} `{name}`" if name else f"this {word}"
    return warning(
        "CZ218", f"nothing refers to {called}", node.span, "remove it, or name it where it is meant"
    )


def _defined(holder: Noun, uses: _Uses) -> Iterator[tuple[str, Noun]]:
    """The definitions of a project or a workflow that have not been named."""
    for kind in _KINDS:
        listed = holder.node.get(kind)
        for noun in getattr(holder, kind, ()):
            # An item that is a reference by itself defines nothing.
            if listed is not None and _within(noun.node, listed) and not uses.has(kind, noun):
                yield kind, noun


class _Uses:
    """What is referred to: nouns by identity, actions by where they are written.

    `unclear`: kinds of which some reference leads nowhere, which is said elsewhere, or is only
    known when it runs.
    """

    def __init__(self) -> None:
        self._nouns: set[int] = set()
        self.unclear: set[str] = set()
        self.actions: dict[tuple[int, int], tuple[Agent, Action]] = {}
        self.asked: set[tuple[int, int]] = set()

    def has(self, kind: str, noun: Noun) -> bool:
        return kind in self.unclear or id(noun) in self._nouns

    def add(self, noun: Noun) -> None:
        self._nouns.add(id(noun))

    def of(self, checked: Checked) -> None:
        """All that a workflow names."""
        scope = checked.scope
        workflow = scope.workflow
        self._schemas(scope, workflow.config.input if workflow.config else None)
        self.knowledge(workflow.knowledge, scope)
        for trigger in workflow.triggers:
            events = trigger.webhook.events if trigger.webhook else ()
            self._schemas(scope, trigger.schema, *(event.schema for event in events))
        for task in scope.tasks:
            self._task(task, scope)
        agents = {id(agent): agent for agent in (*scope.agents.values(), *scope.agents_used)}
        for agent in agents.values():
            self._agent(agent, scope)
        for tool in scope.tools_used:
            self._schemas(scope, tool.input, tool.output)

    def _task(self, task: Task, scope: Scope) -> None:
        self._schemas(scope, task.input, task.output)
        self.knowledge(task.knowledge, scope)
        if isinstance(task, MemoryTask):
            self._named("memories", task.memory_ref, scope.memories)
        if not isinstance(task, BasicTask):
            return
        agent = scope.agent_of(task)
        if agent is not None:
            self.add(agent)
            known = action_of(agent, task.action or "")
            for action in agent.actions:
                self.actions.setdefault(_place(action), (agent, action))
                # One that is not known may be any: it is misspelt, or a template.
                if task.action and known in (None, action):
                    self.asked.add(_place(action))
        elif task.agent is not None or task.action:
            self.unclear.add("agents")
        self._offered(task, scope)
        if task.tool is not None:
            self._tool(task.tool, scope)

    def _agent(self, agent: Agent, scope: Scope) -> None:
        self._offered(agent, scope)
        self.knowledge(agent.knowledge, scope)
        for action in agent.actions:
            self._schemas(scope, action.input, action.output)

    def _offered(self, noun: Agent | BasicTask, scope: Scope) -> None:
        for tool in noun.tools:
            self._tool(tool, scope)
        for server in noun.mcps:
            found = scope.mcp(server)
            if found is None:
                self.unclear.add("mcps")
            else:
                self.add(found)
        for reference in memory_references(noun.memory):
            self._named("memories", reference.id, scope.memories)

    def _tool(self, given: str | Selector | Tool, scope: Scope) -> None:
        name = given.id if isinstance(given, Selector) else given
        found = scope.tool(given)
        if name in REACH_AGENTS:
            self.unclear.add("agents")
        if found is not None:
            self.add(found)
        elif not str(name).startswith("cp__"):
            self.unclear.add("tools")

    def knowledge(self, given: Knowledge | None, scope: Scope) -> None:
        for one in given if isinstance(given, list) else [given]:
            if one is not None and one.id:
                self._named("knowledge_bases", one.id, scope.knowledge_bases)

    def _schemas(self, scope: Scope, *given: Any) -> None:
        for one in given:
            name = one.get("schema") if isinstance(one, dict) and set(one) == {"schema"} else one
            if isinstance(name, str):
                self._named("schemas", schema_name(name), scope.named_schemas)

    def _named(self, kind: str, name: str, known: dict[str, Any]) -> None:
        if name in known:
            self.add(known[name])
        else:
            self.unclear.add(kind)

    def in_templates(self, checked: Checked) -> None:
        """Agents, tools, servers and schemas that templates read."""
        scope = checked.scope
        tools = (place for tool in scope.tools_used for place in of_tool(tool))
        for place in (*places(scope), *tools):
            text = str(place.node.value)
            if "{{" not in text and not place.condition:
                continue
            try:
                template = parse_condition(text) if place.condition else parse(text)
            except TemplateError:
                continue  # said by the pass over templates
            for read in template.reads:
                root, name = read.segments[0], read.segments[1:2]
                if root in ("agents", "tools", "mcps"):
                    known: dict[str, Any] = getattr(scope, root)
                    self._named(root, str(name[0]) if name else "", known)
            for use in template.uses:
                if use.name == "validateSchema":
                    self._named("schemas", use.texts[-1] if use.texts else "", scope.named_schemas)


# --- what directives have brought -----------------------------------------------------------------


def _follow(
    project: Project, holders: Iterable[Noun], left: list[tuple[str, Noun]], uses: _Uses
) -> None:
    """Marks the definitions of which some part stands in another place."""
    index: dict[int, list[tuple[int, Noun]]] = {}
    for _, noun in left:
        index.setdefault(id(noun.node.file), []).append((noun.node.start, noun))
    for listed in index.values():
        listed.sort(key=lambda entry: entry[0])
    components = (one for listed in project.loaded.components.values() for one in listed)
    waiting: list[Node] = [noun.node for noun in (*holders, *components)]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        below: Iterable[Node] = ()
        if isinstance(node, Mapping):
            below = node.entries.values()
        elif isinstance(node, Sequence):
            below = node.items
        for child in below:
            if not _within(child, node):
                _mark(child, node, index.get(id(child.file), ()), uses)
            if isinstance(child, (Mapping, Sequence)):
                waiting.append(child)


def _mark(child: Node, parent: Node, listed: Any, uses: _Uses) -> None:
    at = bisect_right(listed, child.start, key=lambda entry: entry[0]) - 1
    if at >= 0:
        noun = listed[at][1]
        if _within(child, noun.node) and not _within(parent, noun.node):
            uses.add(noun)


def _within(node: Node, around: Node) -> bool:
    """Whether a node is written inside of another one."""
    return node.file is around.file and around.start <= node.start and node.end <= around.end


def _place(action: Action) -> tuple[int, int]:
    return id(action.node.file), action.node.start
