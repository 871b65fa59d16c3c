"""Settings that do not fit each other, and that do nothing here (service.md §5.4, §14 row 43).

Types, bounds and unknown keys are found when the sections are read, like those of nouns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.diagnostics import Diagnostic, Span, error, warning
from compozy_prefect.language.config import Config, knowledge_settings
from compozy_prefect.language.misfits import head
from compozy_prefect.language.models.base import fields_of
from compozy_prefect.language.models.model import Provider
from compozy_prefect.language.models.project import Project as ProjectNoun
from compozy_prefect.language.models.project import Settings, Workflow
from compozy_prefect.language.names import suggest
from compozy_prefect.language.nodes import Mapping

_SHORTEST_KEY = 16

# (smaller, larger): the second must be more than the first …
_LESS = (
    ("runtime.dispatcher_heartbeat_interval", "runtime.dispatcher_heartbeat_ttl"),
    ("runtime.dispatcher_heartbeat_ttl", "runtime.dispatcher_stale_threshold"),
    ("knowledge.chunk_overlap", "knowledge.chunk_size"),
)
# … or at least as much.
_AT_MOST = (
    ("llm.retry_backoff_base", "llm.retry_backoff_max"),
    ("stream.agent.default_poll", "stream.agent.max_poll"),
    ("stream.agent.min_poll", "stream.agent.default_poll"),
    ("stream.task.default_poll", "stream.task.max_poll"),
    ("stream.task.min_poll", "stream.task.default_poll"),
    ("stream.workflow.default_poll", "stream.workflow.max_poll"),
    ("stream.workflow.min_poll", "stream.workflow.default_poll"),
)


def settings(project: Project) -> Iterator[Diagnostic]:
    loaded = project.loaded
    if loaded.project is None:
        return
    own = knowledge_settings(loaded.project)
    if own is not None:
        yield from own.diagnostics
    given = {name for name, _ in _sections(loaded.project)}
    for pair in (*_LESS, *_AT_MOST):
        if given & {key.partition(".")[0] for key in pair}:
            yield from _ordered(loaded.config, *pair, may_equal=pair in _AT_MOST)
    if "server" in given:
        yield from _key_of_admin(loaded.config)
    if "llm" in given:
        yield from _providers(loaded.config)
    if "tasks" in given:
        yield from _runner(loaded.config)


def _providers(config: Config) -> Iterator[Diagnostic]:
    limits = config["llm.rate_limiting.per_provider_limits"]
    known = get_args(Provider)
    for name, limit in limits.items():
        if name not in known and limit.is_placed:
            hint = suggest(name, known, what="providers")
            message = f"`per_provider_limits` names no provider: `{name}`"
            yield warning("CZ325", message, head(limit.node), hint)


def _ordered(config: Config, low: str, high: str, *, may_equal: bool) -> Iterator[Diagnostic]:
    less, more = config.setting(low), config.setting(high)
    if less.value < more.value or (may_equal and less.value == more.value):
        return
    # At the one that the file gives; both defaults fit.
    span = less.origin.span or more.origin.span
    if span is not None:
        word = "at least" if may_equal else "more than"
        message = f"`{high}` must be {word} `{low}`: {more.value:g} and {less.value:g}"
        yield error("CZ325", message, span)


def _key_of_admin(config: Config) -> Iterator[Diagnostic]:
    enabled, key = config.setting("server.auth.enabled"), config["server.auth.admin_key"]
    if enabled.value and enabled.origin.span is not None:
        if not key:
            hint = "write `{{ .env.ADMIN_KEY }}`, and the key into `.env`"
            message = "`server.auth` is enabled and has no `admin_key`"
            yield error("CZ325", message, enabled.origin.span, hint)
        elif "{{" not in key and len(key) < _SHORTEST_KEY:
            span = config.setting("server.auth.admin_key").origin.span
            message = f"`server.auth.admin_key` has less than {_SHORTEST_KEY} characters"
            yield error("CZ325", message, span or enabled.origin.span)


def _runner(config: Config) -> Iterator[Diagnostic]:
    """A cluster is of the kind that the address says; the environment may choose another one."""
    kind, address = config.setting("tasks.runner.type"), config.setting("tasks.runner.address")
    span = address.origin.span or kind.origin.span
    if span is None or not address.value:
        return
    is_ray = address.value == "auto" or address.value.startswith("ray://")
    if kind.value == "dask" and is_ray:
        message = f"`{address.value}` is the address of a Ray cluster, and the runner is Dask"
        yield error("CZ325", message, span, "such as `tcp://scheduler:8786`")
    elif kind.value == "ray" and "://" in address.value and not is_ray:
        message = f"`{address.value}` is the address of a Dask cluster, and the runner is Ray"
        yield error("CZ325", message, span, "such as `ray://head:10001`")
    elif config["tasks.runner.workers"]:
        message = "`tasks.runner.workers` does nothing beside an `address`: the cluster has its own"
        yield warning("CZ325", message, span)


def inert(project: Project) -> Iterator[Diagnostic]:
    """What the project sets and this version does nothing with; reported under `--strict` only."""
    if project.loaded.project is not None:
        for name, around in _sections(project.loaded.project):
            yield from _inert(name, around, name)


def places(noun: ProjectNoun) -> list[Span]:
    """Where the project file has settings, and the keys that name no section of any."""
    spans = []
    for name, around in _sections(noun):
        first, last = around.key_span(name), around.entries[name].span
        spans.append(first._replace(end_line=last.end_line, end_column=last.end_column))
    known = fields_of(type(noun))
    spans += [noun.node.key_span(key) for key in noun.node.entries if key not in known]
    return spans


def _sections(noun: ProjectNoun) -> list[tuple[str, Mapping]]:
    """The keys of settings, each with the map it stands in: the project's, or its `config`."""
    names = {*Settings._declared, "monitoring", "runtime"}
    if knowledge_settings(noun) is not None:
        names.add("knowledge")
    found = []
    for node in (noun.node, noun.node.get("config")):
        if isinstance(node, Mapping):
            own = names & node.entries.keys()
            if node is noun.node and isinstance(noun, Workflow):
                own.discard("tasks")  # they are the steps
            found += [(name, node) for name in sorted(own)]
    return found


def _inert(name: str, around: Mapping, key: str) -> Iterator[Diagnostic]:
    """At the outermost key that does nothing with all that is under it."""
    from compozy_prefect.language.registry import has_effect, is_known, why_inert

    node = around.entries[name]
    if not is_known(key):
        return  # reported where the section is read
    if not has_effect(key):
        message = f"`{key}` does nothing here: {why_inert(key)}"
        yield warning("CZ315", message, around.key_span(name))
    elif isinstance(node, Mapping):
        for below in node.entries:
            yield from _inert(below, node, f"{key}.{below}")
