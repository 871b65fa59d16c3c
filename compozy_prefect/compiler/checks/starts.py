"""What starts a workflow: signals, webhooks and schedules (language.md §2.7, §2.8, §12.3, §14 rows
33 and 34)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from compozy_prefect.compiler.checks.nouns import is_blank, is_given, is_resolved, place
from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.diagnostics import Diagnostic, Span, error, warning
from compozy_prefect.language import misfits
from compozy_prefect.language.models.trigger import Schedule, Trigger, Verify, Webhook
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping

if TYPE_CHECKING:
    from jsonschema import ValidationError

T = TypeVar("T")

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]*")
_FIELD = re.compile(r"`(\w+)")
_NEEDS = {"hmac": ("secret", "header"), "stripe": ("secret",), "github": ("secret",)}
_MOST = 10  # violations of a schema that are told


def starts(project: Project) -> Iterator[Diagnostic]:
    events: dict[str, Span] = {}
    slugs: dict[str, Span] = {}
    for checked in project.workflows:
        for trigger in checked.scope.workflow.triggers:
            if is_resolved(trigger):
                yield from _trigger(trigger, events, slugs)
        schedule = checked.scope.workflow.schedule
        if schedule is not None and is_resolved(schedule):
            yield from _schedule(schedule, checked)


# --- triggers -------------------------------------------------------------------------------------


def _trigger(
    trigger: Trigger, events: dict[str, Span], slugs: dict[str, Span]
) -> Iterator[Diagnostic]:
    node = trigger.node
    stated = node.get("type")
    if trigger.type == "signal":
        if is_given(trigger, "webhook"):
            yield error(
                "CZ321",
                "a trigger of type `signal` has no `webhook`",
                node.key_span("webhook"),
                "write `type: webhook`, or remove `webhook`",
            )
        elif not is_given(trigger, "name"):
            yield error(
                "CZ321",
                "a signal needs a `name`",
                place(trigger, "type"),
                "add `name:`, which `signal` tasks and `POST /events` send",
            )
    elif trigger.type == "webhook" and stated is not None:
        if not is_given(trigger, "webhook"):
            yield error(
                "CZ321",
                "a trigger of type `webhook` needs `webhook`",
                place(trigger, "type"),
                "add `webhook:` with a `slug` and `events`",
            )
        if is_given(trigger, "name"):
            yield error(
                "CZ321",
                "a webhook has no `name`: its events have",
                node.key_span("name"),
                "move it to `webhook.events`, as the `name` of one",
            )
    if trigger.type == "signal" and trigger.name and not is_blank(node.get("name")):
        yield from _unique("signal", trigger.name, node.at("name").span, events)
    if trigger.webhook is not None and is_resolved(trigger.webhook):
        yield from _webhook(trigger.webhook, events, slugs)


def _webhook(
    webhook: Webhook, events: dict[str, Span], slugs: dict[str, Span]
) -> Iterator[Diagnostic]:
    slug = webhook.node.get("slug")
    if slug is not None and "slug" in webhook.node.entries and slug.data() == webhook.slug:
        if not _SLUG.fullmatch(webhook.slug):
            hint = "letters, digits, `-`, `_`, `.` and `~`, such as `new-order`"
            message = f"`{webhook.slug}` cannot be the last part of an address"
            yield error("CZ321", message, slug.span, hint)
        else:
            yield from _unique("slug", webhook.slug, slug.span, slugs)
    for event in webhook.events:
        if event.node.at("name").data() == event.name:
            yield from _unique("event", event.name, event.node.at("name").span, events)
    if webhook.verify is not None:
        yield from _verify(webhook.verify)


def _unique(kind: str, name: str, span: Span, seen: dict[str, Span]) -> Iterator[Diagnostic]:
    first = seen.setdefault(name, span)
    if first == span:
        return
    other = f"the other one is at {first.file}:{first.line}"
    if kind == "slug":
        yield error("CZ321", f"two webhooks have the slug `{name}`", span, f"{other}; slugs differ")
    else:
        hint = f"{other}; names of signals and events differ in the whole project"
        yield error("CZ321", f"two triggers listen to `{name}`", span, hint)


def _verify(verify: Verify) -> Iterator[Diagnostic]:
    missing = [n for n in _NEEDS.get(verify.strategy, ()) if not is_given(verify, n)]
    if missing:
        examples = {
            "secret": '`secret: "{{ .env.WEBHOOK_SECRET }}"`',
            "header": "`header: X-Signature`",
        }
        yield error(
            "CZ321",
            f"`strategy: {verify.strategy}` needs {' and '.join(f'`{n}`' for n in missing)}",
            place(verify, "strategy"),
            f"add {' and '.join(examples[name] for name in missing)}",
        )


# --- schedules ------------------------------------------------------------------------------------


def _schedule(schedule: Schedule, checked: Checked) -> Iterator[Diagnostic]:
    # Imported late: few workflows have a schedule, and `validate` is measured in milliseconds.
    from compozy_prefect.compiler import schedules
    from compozy_prefect.language.cron import check_timezone, parse_cron, parse_instant

    found: list[Diagnostic] = []

    def judged(name: str, judge: Callable[[], T]) -> T | None:
        """What a part of the schedule means; None after its diagnostic."""
        try:
            return judge()
        except ValueError as fault:
            reason, _, right = str(fault).partition("; ")
            found.append(error("CZ322", reason, place(schedule, name, "cron"), right or None))
            return None

    cron_is_given = "cron" in schedule.node.entries and is_given(schedule, "cron")
    cron = judged("cron", lambda: parse_cron(schedule.cron)) if cron_is_given else None
    zone = (schedule.timezone or "").strip() or "UTC"
    judged("timezone", lambda: check_timezone(zone))
    start, end = (
        judged(name, partial(parse_instant, text)) if (text := getattr(schedule, name)) else None
        for name in ("start_at", "end_at")
    )
    judged("end_at", lambda: schedules.check_window(start, end))
    if cron is not None and not found:
        made = judged(
            "cron",
            lambda: schedules.deployment_schedule(
                cron,
                zone,
                schedule.enabled,
                schedule.jitter or 0.0,
                schedule.overlap_policy,
                start,
                end,
            ),
        )
        for sentence in made.not_honoured if made else ():
            field = _FIELD.match(sentence)
            yield warning("CZ322", sentence, place(schedule, field[1] if field else "cron"))
        if made:
            judged("input", lambda: schedules.deployment_schedule(cron, input=schedule.input))
    yield from found
    yield from _input(schedule, checked)


def _input(schedule: Schedule, checked: Checked) -> Iterator[Diagnostic]:
    """The input of the runs, with defaults, against the schema of the workflow (§2.8).

    What only a run can judge, such as keys by pattern, is left to it.
    """
    workflow = checked.scope.workflow
    schema = checked.scope.schema(workflow.config.input if workflow.config else None)
    node = schedule.node.get("input")
    if not isinstance(schema, dict) or not (node is None or isinstance(node, Mapping)):
        return
    value = dict(schedule.input)
    properties = schema.get("properties")
    for name, one in properties.items() if isinstance(properties, dict) else ():
        if isinstance(one, dict) and "default" in one:
            value.setdefault(name, one["default"])
    if not properties and not schema.get("required") and not value:
        return
    for fault in _violations(value, schema):
        path = [*fault.absolute_path]
        span = place(schedule, "input", "cron")
        if node is not None and path and str(path[0]) in node.entries:
            span = misfits.head(node.at(*path))
        yield _violation(fault, path, span)
    if node is not None:
        yield from _no_parameters(node, schema)


def _no_parameters(given: Mapping, schema: dict[str, Any]) -> Iterator[Diagnostic]:
    """Keys that the schema allows without listing them; Prefect starts no flow with such."""
    from compozy_prefect.compiler import types

    if types.single(schema) or schema.get("additionalProperties") is False:
        return
    known = schema["properties"]
    for name in given.entries:
        if name not in known:
            near = nearest(name, known)
            yield warning(
                "CZ322",
                f"the schedule starts runs without `input.{name}`: the schema of the workflow does "
                "not list it, so that the flow has no such parameter",
                given.key_span(name),
                f"did you mean `{near}`?" if near else f"add `{name}` to the schema",
            )


def _violation(fault: ValidationError, path: list[str | int], span: Span) -> Diagnostic:
    wanted: Any = fault.validator_value
    schema: Any = fault.schema
    value: Any = fault.instance
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    near = None
    match fault.validator:
        case "required":
            missing = [f"`{name}`" for name in wanted if name not in value]
            message = f"the schedule starts runs without {' and '.join(missing)}, which the "
            message += "workflow requires" if not path else f"schema of `input{where}` requires"
            hint = "add it under `input`, or give its property in the schema a `default`"
            return error("CZ322", message, span, hint)
        case "type":
            said = f"must be of type {wanted if isinstance(wanted, str) else ' or '.join(wanted)}"
        case "enum":
            said = f"must be one of {', '.join(map(str, wanted))}"
            near = nearest(str(value), map(str, wanted))
        case "additionalProperties":
            known = list(schema.get("properties", {}))
            extra = [name for name in value if name not in known]
            said = f"has {' and '.join(f'`{name}`' for name in extra)}, which the schema rules out"
            near = nearest(extra[0], known) if extra else None
        case _:
            said = f"breaks the schema of the workflow: {fault.message[:160]}"
    return error(
        "CZ322", f"`input{where}` {said}", span, f"did you mean `{near}`?" if near else None
    )


def _violations(value: dict[str, Any], schema: dict[str, Any]) -> list[ValidationError]:
    """What breaks the schema; nothing for a schema that is none, which was reported."""
    from itertools import islice

    from jsonschema import Draft202012Validator, SchemaError, ValidationError
    from jsonschema.validators import extend
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import EMPTY_REGISTRY

    from compozy_prefect.language import patterns

    def pattern(_: Any, wanted: str, text: Any, __: Any) -> Iterator[ValidationError]:
        if isinstance(text, str) and not patterns.search(wanted, text):
            yield ValidationError(f"{text!r} does not match {wanted!r}")

    def nothing(*_: Any) -> Iterator[ValidationError]:
        return iter(())

    # The library searches with `re`, which nothing can stop.
    by_pattern = "patternProperties" in str(schema)
    keywords: dict[str, Any] = {"pattern": pattern, "patternProperties": nothing}
    keywords["unevaluatedProperties"] = nothing
    if by_pattern:
        keywords["additionalProperties"] = nothing
    judge: Any = extend(Draft202012Validator, keywords)  # type: ignore[no-untyped-call]
    try:
        judge.check_schema(schema)
        with patterns.bounded():
            # Without a registry of its own jsonschema fetches references over the network.
            found = judge(schema, registry=EMPTY_REGISTRY).iter_errors(value)
            return list(islice(found, _MOST))
    except (SchemaError, Unresolvable, patterns.PatternTimeout, ValueError, RecursionError):
        return []
