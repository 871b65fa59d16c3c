"""What the passes look at: the project with, for each workflow, its scope and its steps."""

from __future__ import annotations

from typing import NamedTuple

from compozy_prefect.compiler import lock
from compozy_prefect.compiler.scope import Scope
from compozy_prefect.compiler.tree import Tree, tree
from compozy_prefect.language.load import Loaded


class Checked(NamedTuple):
    """A workflow, ready to be judged or lowered."""

    scope: Scope
    tree: Tree


class Project(NamedTuple):
    loaded: Loaded
    workflows: tuple[Checked, ...]
    lock: lock.Read = lock.NONE


def project_of(loaded: Loaded) -> Project:
    workflows = []
    for workflow in loaded.workflows:
        noun = workflow.noun
        default = noun.config.on_error if noun.config else None
        project = loaded.project
        if default is None and project is not None and project.config is not None:
            default = project.config.on_error
        steps = tree(noun.tasks, default)
        workflows.append(Checked(Scope(loaded, workflow, steps), steps))
    return Project(loaded, tuple(workflows), lock.read(loaded.root))
