"""`compozy graph`: a picture of the workflows, from the plan alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from compozy_prefect.cli import DONE
from compozy_prefect.cli.app import SETTINGS
from compozy_prefect.cli.output import write_text


def graph(
    path: Path = Path("."),
    /,
    *,
    workflow: str | None = None,
    format: Literal["mermaid", "dot", "svg"] = "mermaid",
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
) -> int:
    """Draw the workflows of a project. Nothing of it is executed.

    Parameters
    ----------
    path
        A project directory or a YAML file.
    workflow
        The id of one workflow; without it all are drawn, in a box each if there are several.
    format
        `mermaid` is what GitHub shows in a ```mermaid block, `dot` is for Graphviz, and `svg` a
        picture that needs no other program.
    output
        Write to this file instead of stdout.
    """
    from compozy_prefect.compiler.compile import compile_project
    from compozy_prefect.compiler.graph import graph as drawn

    project = compile_project(path, env_file=SETTINGS.env_file, flags=SETTINGS.flags)
    chosen = None if workflow is None else project.only_workflow(workflow)
    root = drawn(project.plan, chosen)
    if format == "svg":
        from compozy_prefect.compiler.graph_svg import svg as render
    elif format == "dot":
        from compozy_prefect.compiler.graph_dot import dot as render
    else:
        from compozy_prefect.compiler.graph_mermaid import mermaid as render
    write_text(render(root), output)
    return DONE
