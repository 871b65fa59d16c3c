"""Calls of models → counters at the port of Prefect's client metrics, where these are enabled.

Prefect starts that server in workers and `serve` alone; a run in a process of its own does, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from prefect.settings import get_current_settings
from prefect.utilities.services import start_client_metrics_server

from compozy_prefect.runtime.calls import Called

_log = logging.getLogger(__name__)


class _Counters(NamedTuple):
    calls: Any
    tokens: Any
    cost: Any


def counting() -> Callable[[Called], None] | None:
    """What to tell of each call that is paid; None when nobody wants metrics."""
    if not get_current_settings().client.metrics.enabled:
        return None
    try:
        start_client_metrics_server()
    except OSError as fault:
        # A run that a worker started: the port is the worker's, which knows nothing of calls.
        _log.warning("the metrics of this run cannot be read: %s", fault)
    return _count


@cache  # a counter is registered once a process
def _counters() -> _Counters:
    from prometheus_client import Counter

    return _Counters(
        Counter("compozy_llm_calls", "Calls of models.", ["model", "status"]),
        Counter("compozy_llm_tokens", "Tokens of prompts and answers.", ["model", "kind"]),
        Counter("compozy_llm_cost_usd", "US dollars, where the price is known.", ["model"]),
    )


def _count(call: Called) -> None:
    counters, usage = _counters(), call.usage
    counters.calls.labels(call.name, "failed" if call.error else "completed").inc()
    counters.tokens.labels(call.name, "prompt").inc(usage.prompt_tokens)
    counters.tokens.labels(call.name, "completion").inc(usage.completion_tokens)
    if usage.cost_usd:
        counters.cost.labels(call.name).inc(usage.cost_usd)
