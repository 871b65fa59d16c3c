"""Secrets that stand in a file (language.md §13 no. 58)."""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.scope import Scope
from compozy_prefect.diagnostics import Diagnostic, warning
from compozy_prefect.language.models.model import Model


def secrets(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        for model in models_of(checked.scope):
            if model.api_key and "{{" not in model.api_key:
                variable = f"{model.provider.upper()}_API_KEY"
                yield warning(
                    "CZ501",
                    "a key stands in the file",
                    model.node.at("api_key").span,
                    f"put it into `.env` and write `{{{{ .env.{variable} }}}}`; the plan never "
                    "holds a key, so a deployed flow cannot use this one",
                )


def models_of(scope: Scope) -> Iterator[Model]:
    """Every model that the workflow defines or an agent of it uses."""
    yield from scope.models
    for agent in (*scope.agents.values(), *scope.agents_used):
        model = scope.model_of(agent)
        if model is not None:
            yield model
