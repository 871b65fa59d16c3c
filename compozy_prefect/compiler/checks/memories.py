"""Memories, and the tasks that read and change them (language.md §3.10, §7, §14 rows 23 and 31)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compozy_prefect.compiler.checks.nouns import (
    called,
    is_blank,
    is_given,
    is_template,
    nouns,
    place,
)
from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse
from compozy_prefect.expressions.nodes import Text
from compozy_prefect.language import misfits
from compozy_prefect.language.config import Config
from compozy_prefect.language.models.memory import (
    CircuitBreaker,
    Flushing,
    Memory,
    MemoryReference,
    Persistence,
    PrivacyPolicy,
    TokenAllocation,
)
from compozy_prefect.language.models.task import MemoryTask
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence

ROLES = ("user", "assistant", "system", "tool")
MOST_MESSAGES = 100
"""Messages that one task may write (§3.10)."""
LONGEST_KEY = 256

_NO_KEY = re.compile(r"[^\w:\-@.*]", re.ASCII)
_KEY_HINT = "a key has letters, digits and `_ : - @ . *`, at most 256, and no `__` at either end"
_LIMITS = ("max_tokens", "max_messages", "max_context_ratio")
_PARTS = ("short_term", "long_term", "system", "user_defined")
# What takes the place of an escape or a set, so that a pattern has no brackets but its groups.
_ATOM = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.S)
# A group that ends in a repetition without bound, and is repeated without bound: `(a+)+`.
_NESTED = re.compile(r"\([^()]*(?:[+*]|\{\d+,\})\??\)(?:[+*]|\{\d+,\})")


def memories(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        for task in checked.scope.tasks:
            if isinstance(task, MemoryTask):
                yield from _task(task, project.loaded.config)
    for noun in nouns(project, Memory, MemoryReference):
        if isinstance(noun, Memory):
            yield from _memory(noun)
        elif isinstance(noun, MemoryReference):
            yield from _reference(noun)


# --- tasks ----------------------------------------------------------------------------------------


def _task(task: MemoryTask, settings: Config) -> Iterator[Diagnostic]:
    yield from _key(task)
    if task.operation in ("write", "append"):
        payload = task.node.get("payload")
        if payload is None or payload.data() is None:
            yield error(
                "CZ319",
                f"`operation: {task.operation}` needs a `payload`",
                place(task, "operation", "id"),
                "a text, a message such as `{role: user, content: …}`, or a list of messages",
            )
        else:
            yield from _payload(payload)
            yield from _sizes(payload, settings)
    if task.operation == "clear" and not (task.clear_config and task.clear_config.confirm):
        # A `confirm` that is no boolean was reported.
        config = task.node.get("clear_config")
        given = config.get("confirm") if isinstance(config, Mapping) else None
        if given is None or given.data() in (None, False):
            yield error(
                "CZ319",
                "`operation: clear` deletes a conversation and needs `clear_config.confirm: true`",
                place(task, "operation", "id") if given is None else given.span,
                "add `clear_config: {confirm: true}`" if given is None else "write `true`",
            )


def _key(task: MemoryTask) -> Iterator[Diagnostic]:
    """What a key says in its own words must be allowed; the rest is known when it runs."""
    node = task.node.get("key_template")
    if not isinstance(node, Scalar) or not isinstance(node.value, str) or is_blank(node):
        return
    text = node.value
    try:
        body = parse(text).body
    except TemplateError:
        return  # said by the pass over templates
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    key = text[first:last]
    for part in body:
        if not isinstance(part, Text):
            continue
        begin = max(text.find(part.value, part.start), 0)  # behind what a trim marker took away
        for found in _NO_KEY.finditer(text, max(first, begin), min(last, begin + len(part.value))):
            span = node.span_of(*found.span())
            shown = "white space" if found[0].isspace() else f"`{found[0]}`"
            yield error("CZ319", f"{shown} cannot stand in the key of a memory", span, _KEY_HINT)
            return
    if key.startswith("__"):
        span = node.span_of(first, first + 2)
        yield error("CZ319", "the key of a memory cannot begin with `__`", span, _KEY_HINT)
    elif key.endswith("__"):
        span = node.span_of(last - 2, last)
        yield error("CZ319", "the key of a memory cannot end with `__`", span, _KEY_HINT)
    if not is_template(key) and len(key) > LONGEST_KEY:
        message = f"the key of a memory has {len(key)} characters"
        yield error("CZ319", message, node.span, _KEY_HINT)


def _payload(node: Node) -> Iterator[Diagnostic]:
    if not isinstance(node, Sequence):
        yield from _message(node)
        return
    if len(node.items) > MOST_MESSAGES:
        yield error(
            "CZ319",
            f"{len(node.items)} messages are more than the {MOST_MESSAGES} of one task",
            node.items[MOST_MESSAGES].span,
            "write the rest with another task",
        )
    for item in node.items:
        yield from _message(item)


def _sizes(payload: Node, config: Config) -> Iterator[Diagnostic]:
    """Messages in bytes of UTF-8, as far as they stand in the file (§3.10)."""
    messages = payload.items if isinstance(payload, Sequence) else (payload,)
    contents = (one.get("content") if isinstance(one, Mapping) else one for one in messages)
    written = [one for one in contents if isinstance(one, Scalar) and not is_template(one.text)]
    sizes = [len(one.text.encode("utf-8", "replace")) for one in written]
    most = config.setting("limits.max_message_content")
    for node, size in zip(written, sizes, strict=True):
        if size > most.value:
            message = f"the message has {size:,} bytes, and may have {most.value:,}"
            yield error("CZ319", message, node.span, f"`{most.key}` is the bound")
    total = config.setting("limits.max_total_content_size")
    if sum(sizes) > total.value and max(sizes) <= most.value:
        message = f"the messages have {sum(sizes):,} bytes, and may have {total.value:,}"
        yield error("CZ319", message, misfits.head(payload), f"`{total.key}` is the bound")


def _message(node: Node) -> Iterator[Diagnostic]:
    """A text, or a map with `content` and maybe `role`."""
    if isinstance(node, Scalar) and isinstance(node.value, str):
        if is_blank(node):
            yield error("CZ319", "the message is empty", node.span, "write what is remembered")
        return
    if not isinstance(node, Mapping):
        hint = "write a text, or a map such as `{role: user, content: …}`"
        yield error("CZ319", f"a {node.kind} is no message", node.span, hint)
        return
    if any(name[:1] == "$" for name in node.entries):
        return
    content, role = node.get("content"), node.get("role")
    if content is None:
        near = nearest("content", node.entries)
        keys = [*node.keys.values()]
        yield error(
            "CZ319",
            "a message needs `content`",
            node.key_span(near) if near else keys[0].span if keys else node.span,
            f"`{near}` looks like it" if near else "write `{role: user, content: …}`",
        )
    elif is_blank(content):
        yield error("CZ319", "the message is empty", content.span, "write what is remembered")
    if isinstance(role, Scalar) and not is_blank(role) and not is_template(role.text):
        name = role.text.strip()
        if name.lower() not in ROLES:
            near = nearest(name, ROLES)
            listed = f"roles: {', '.join(ROLES)}"
            hint = f"did you mean `{near}`? {listed}" if near else listed
            yield error("CZ319", f"unknown role: `{name}`", role.span, hint)


# --- resources ------------------------------------------------------------------------------------


def _memory(memory: Memory) -> Iterator[Diagnostic]:
    limited = any(is_given(memory, name) for name in _LIMITS)
    if memory.type == "token_based" and not limited and "type" in memory.node.entries:
        yield error(
            "CZ319",
            f"{called(memory, 'memory')} is `token_based` and has no limit",
            memory.node.at("type").span,
            "add `max_tokens:`, `max_messages:` or `max_context_ratio:`",
        )
    if memory.token_allocation is not None:
        yield from _allocation(memory.token_allocation)
    for flushing in (memory.flushing, memory.flushing_strategy):
        if flushing is not None and flushing.type == "hybrid_summary":
            yield from _summary(flushing)
    if memory.persistence is not None:
        yield from _persistence(memory.persistence)
    if memory.privacy_policy is not None:
        yield from _patterns(memory.privacy_policy)


def _reference(reference: MemoryReference) -> Iterator[Diagnostic]:
    if reference.mode == "read-only" and is_given(reference, "privacy"):
        yield warning(
            "CZ319",
            "`privacy` does nothing here: through a `read-only` reference nothing is stored",
            reference.node.key_span("privacy"),
            "put it on the reference of the agent that writes",
        )


def _allocation(given: TokenAllocation) -> Iterator[Diagnostic]:
    parts = [part for name in _PARTS[:3] if (part := getattr(given, name)) is not None]
    own = given.node.get("user_defined")
    for name, part in given.user_defined.items():
        parts.append(part)
        if not 0 <= part <= 1:
            yield error(
                "CZ319",
                f"the part `{name}` must be between 0 and 1, not {part:g}",
                own.at(name).span if own is not None else given.node.span,
            )
    listed = sum(name in given.node.entries for name in _PARTS[:3])
    listed += len(own.entries) if isinstance(own, Mapping) else 0
    if listed == len(parts) and abs(sum(parts) - 1) > 0.001:  # else one was reported
        span = given.node.file.span(given.node.start, given.node.end)
        first = next(iter(given.node.keys.values()), None)
        yield error(
            "CZ319",
            f"the parts of `token_allocation` add up to {sum(parts):g}, not to 1",
            first.span if first is not None else span,
            "divide 1 between them, such as `{short_term: 0.7, long_term: 0.2, system: 0.1}`",
        )


def _summary(flushing: Flushing) -> Iterator[Diagnostic]:
    wanted = {
        "summarize_threshold": ("summarize_threshold", "threshold"),
        "summary_tokens": ("summary_tokens",),
    }
    examples = {"summarize_threshold": "0.8", "summary_tokens": "500"}
    for name, names in wanted.items():
        if not any(is_given(flushing, one) for one in names):
            yield error(
                "CZ319",
                f"`hybrid_summary` needs `{name}`",
                flushing.node.at("type").span,
                f"add `{name}: {examples[name]}`",
            )


def _persistence(persistence: Persistence) -> Iterator[Diagnostic]:
    if persistence.type == "redis" and not is_given(persistence, "ttl"):
        yield error(
            "CZ319",
            "`persistence` needs a `ttl`",
            place(persistence, "type"),
            "add `ttl: 24h`: a conversation is dropped that long after its last message; only "
            "`type: in_memory` goes without",
        )
    breaker = persistence.circuit_breaker
    if breaker is not None and breaker.enabled:
        yield from _breaker(breaker)


def _breaker(breaker: CircuitBreaker) -> Iterator[Diagnostic]:
    names = [n for n in ("timeout", "max_failures", "reset_timeout") if not is_given(breaker, n)]
    if names:
        yield error(
            "CZ319",
            f"a circuit breaker needs {' and '.join(f'`{name}`' for name in names)}",
            breaker.node.key_span("enabled"),
            "such as `{enabled: true, timeout: 100ms, max_failures: 3, reset_timeout: 30s}`",
        )


def _patterns(policy: PrivacyPolicy) -> Iterator[Diagnostic]:
    """§7.3: RE2, which matches in linear time, and has no look-around and no back-references."""
    listed = policy.node.get("redact_patterns")
    for node in listed.items if isinstance(listed, Sequence) else ():
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            continue
        fault = _fault(node.value)
        if fault:
            hint = "look-around and back-references do not exist in RE2, which redacts"
            asks = re.search(r"\(\?(?:[=!]|<[=!])|\\[1-9]", node.value)
            yield error(
                "CZ319", f"no regular expression: {fault}", node.span, hint if asks else None
            )
        elif nested := _nested(node.value):
            yield error(
                "CZ319",
                "a repetition inside a repetition takes too long on some texts",
                node.span_of(*nested),
                "repeat once: `(a+)+` finds what `a+` finds",
            )


def _fault(pattern: str) -> str:
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as fault:
        text = fault.args[0]
        return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return ""


def _nested(pattern: str) -> tuple[int, int] | None:
    """Where a group that ends in a repetition is itself repeated; bounds are no danger."""
    flat = _ATOM.sub(lambda found: "x" * len(found[0]), pattern)
    found = _NESTED.search(flat)
    return found.span() if found else None
