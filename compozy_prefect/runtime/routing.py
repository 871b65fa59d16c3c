"""The condition of a router → the route it takes (language.md §3.6)."""

from __future__ import annotations

from typing import NamedTuple

from compozy_prefect.compiler.plan import Json, RouterPlan, StepPlan
from compozy_prefect.errors import RunError, TemplateError
from compozy_prefect.expressions import parse_condition
from compozy_prefect.runtime import templates
from compozy_prefect.runtime.outcome import plain
from compozy_prefect.runtime.scope import Opened, Scope

DEFAULT = "default"


class Route(NamedTuple):
    """The key of the route, the id of the step it leads to, and the value of the condition."""

    key: str
    target: str
    value: Json


def choose(step: StepPlan, scope: Scope, opened: Opened) -> Route:
    """The route that a router takes. Raises RunError when there is none."""
    router = step.router
    assert router is not None
    seen = scope.context.for_step(step, env=opened.env, given=opened.given)
    at = scope.at(step, "router", "condition")
    if router.kind == "literal":
        value: Json = router.condition.strip()
    elif router.kind == "template":
        value = templates.render(router.condition, seen, opened.environment, at, scope.spans)
    else:
        try:
            value = plain(parse_condition(router.condition).native(seen, opened.environment))
        except TemplateError as fault:
            raise templates.located(fault, router.condition, at, scope.spans) from None
    key = key_of(router, value)
    target = next((route.target for route in router.routes if route.key == key), router.default)
    if not target:
        known = ", ".join(f"`{route.key}`" for route in router.routes)
        raise RunError(
            f"router `{step.id}` has no route for {_shown(value)}; its routes: {known}",
            code="NO_ROUTE",
            details={"condition": value, "routes": [route.key for route in router.routes]},
            retryable=False,
        )
    if "{{" in target:
        target = templates.render_text(
            target, seen, opened.environment, scope.at(step, "router"), scope.spans
        ).strip()
    return Route(key, target, value)


def key_of(router: RouterPlan, value: Json) -> str:
    """The key of a route: the value as text; for a boolean also the first route, or the default."""
    text = _text(value)
    if _has(router, text):
        return text
    if value is True:
        first = next((r.key for r in router.routes if r.key not in (DEFAULT, "false")), DEFAULT)
        return first
    return DEFAULT


def _has(router: RouterPlan, key: str) -> bool:
    return any(route.key == key for route in router.routes)


def _text(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value).strip()


def _shown(value: Json) -> str:
    return f"`{_text(value)[:60]}`" if isinstance(value, (str, int, float)) else "this value"
