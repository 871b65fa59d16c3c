"""What the passes look at: the project with, for each workflow, its scope and its edges."""

from __future__ import annotations

from typing import NamedTuple

from compozy_prefect.compiler.scope import Scope
from compozy_prefect.compiler.sequence import Sequence, sequence
from compozy_prefect.language.load import Loaded


class Checked(NamedTuple):
    """A workflow, ready to be judged or lowered."""

    scope: Scope
    sequence: Sequence


class Project(NamedTuple):
    loaded: Loaded
    workflows: tuple[Checked, ...]


def project_of(loaded: Loaded) -> Project:
    workflows = []
    for workflow in loaded.workflows:
        scope = Scope(loaded, workflow)
        default = scope.workflow.config.on_error if scope.workflow.config else None
        project = loaded.project
        if default is None and project is not None and project.config is not None:
            default = project.config.on_error
        workflows.append(Checked(scope, sequence(scope.workflow.tasks, default)))
    return Project(loaded, tuple(workflows))
