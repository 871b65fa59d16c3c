"""`compozy render`: one template, evaluated, for trying things out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from compozy_prefect.cli import DONE, FAILED
from compozy_prefect.cli.output import colour, print_json
from compozy_prefect.diagnostics import SourceText, Span, error
from compozy_prefect.diagnostics import render as render_diagnostics
from compozy_prefect.errors import TemplateError, UsageError
from compozy_prefect.language.data import read_data


def render(
    template: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    context: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    format: Literal["value", "text"] = "value",
) -> int:
    """Evaluate one template.

    Parameters
    ----------
    template
        Such as '{{ .workflow.input.name | upper }}'.
    context
        A YAML or JSON file with the variables; `-` reads stdin.
    format
        The value as JSON, or the text it renders to.
    """
    from compozy_prefect.expressions import Environment, parse

    data = read_data(context) if context is not None else {}
    if not isinstance(data, dict):
        raise UsageError("the context must be a map of variables")
    env = data.get("env")
    environment = Environment(env=env if isinstance(env, dict) else {})
    try:
        parsed = parse(template)
        if format == "text":
            print(parsed.text(data, environment))
        else:
            print_json(_json(parsed.native(data, environment)))
    except TemplateError as fault:
        source = SourceText("template", template)
        found = error(fault.code, fault.message, _span(template, fault), fault.hint)
        text = render_diagnostics([found], {"template": source}, colour=colour(sys.stderr))
        print(text, file=sys.stderr, end="")
        return FAILED
    return DONE


def _json(value: Any) -> Any:
    from compozy_prefect.runtime.outcome import plain

    return plain(value)


def _span(template: str, fault: TemplateError) -> Span:
    def place(offset: int) -> tuple[int, int]:
        before = template[:offset]
        return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1

    return Span("template", *place(fault.start), *place(max(fault.end, fault.start + 1)))
