"""What starts a workflow: signals, webhooks, schedules (language.md §2.7, §2.8, §12.3)."""

from typing import Any, Literal

from compozy_prefect.language.models.base import Data, Noun, Seconds, Variables, field


class Verify(Noun):
    """How the sender of a webhook is known."""

    called = "`verify`"

    strategy: Literal["none", "hmac", "stripe", "github"] = field("none", "How.")
    secret: str | None = field(None, "Shared with the sender; a template.")
    header: str | None = field(None, "Where the signature is, for `hmac`.")
    skew: Seconds | None = field(None, "How old a signature may be; 5m if not given.")


class Dedupe(Noun):
    """How a webhook that comes twice is known."""

    called = "`dedupe`"

    enabled: bool = field(True, "Whether it is looked for.")
    key: str | None = field(None, "Path in the body, without an `X-Idempotency-Key` header.")
    ttl: Seconds | None = field(None, "How long it is remembered; 10m if not given.")


class WebhookEvent(Noun):
    """One event that a webhook may bring."""

    called = "an event"

    name: str = field(..., "Unique in the project.", min_length=1)
    filter: str = field(..., "When it is this event; a condition.", min_length=1)
    input: Variables = field(..., "The workflow's input; templates over `.payload`.", min_length=1)
    schema: Data = field(None, "Schema of the input.")


class Webhook(Noun):
    """An address at which events arrive."""

    slug: str = field(..., "Last part of the address; unique in the project.", min_length=1)
    method: Literal["POST", "PUT", "PATCH"] = field("POST", "Of the request.")
    events: list[WebhookEvent] = field(..., "The first that matches counts.", min_length=1)
    verify: Verify | None = field(None, "How the sender is known.")
    dedupe: Dedupe | None = field(None, "How a second delivery is known.")


class Trigger(Noun):
    """A signal or a webhook that starts the workflow (§2.7)."""

    type: Literal["signal", "webhook"] = field(..., "What starts it.")
    name: str | None = field(None, "Of the signal; unique in the project.")
    schema: Data = field(None, "Schema of the payload.")
    webhook: Webhook | None = field(None, "For `type: webhook`.")


class Schedule(Noun):
    """When the workflow starts by itself (§2.8)."""

    cron: str = field(
        ..., "5, 6 (seconds first) or 7 fields (year last), or `@every 1h`.", example="0 9 * * 1-5"
    )
    timezone: str | None = field(None, "IANA name; UTC if not given.", example="Europe/Berlin")
    enabled: bool = field(True, "Whether it starts paused.")
    jitter: Seconds | None = field(None, "Random delay, at most.")
    overlap_policy: Literal["skip", "allow", "buffer_one", "cancel_other"] = field(
        "skip", "When the last run is not over yet."
    )
    start_at: str | None = field(None, "RFC 3339; not before.")
    end_at: str | None = field(None, "RFC 3339; not after.")
    input: dict[str, Any] = field({}, "Input of the runs.")
