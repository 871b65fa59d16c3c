"""Templates and conditions of the language: parsed once, checked before a run, evaluated in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions.functions import Environment
from compozy_prefect.expressions.template import Template, parse, parse_condition

__all__ = [
    "Environment",
    "Template",
    "TemplateError",
    "parse",
    "parse_condition",
    "render",
    "render_text",
]


def render(
    template: str, context: Mapping[str, Any], environment: Environment | None = None
) -> Any:
    """The value of a template of one action with its type, text otherwise (language.md §11.4).

    Raises TemplateError with a span.
    """
    return parse(template).native(context, environment)


def render_text(
    template: str, context: Mapping[str, Any], environment: Environment | None = None
) -> str:
    """The text that a template renders to. Raises TemplateError with a span."""
    return parse(template).text(context, environment)
