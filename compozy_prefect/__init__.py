"""Compozy workflows, compiled to Prefect 3 flows.

    from compozy_prefect import compile_project, run

    project = compile_project("examples/hello-world")
    flow = project.flow("hello-world")          # a prefect.Flow
    result = run(project, input={"name": "Ada"}, offline=True)

Nothing is imported before it is used: reading and checking a project needs no Prefect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compozy_prefect.compiler.compile import CompiledProject, check, compile_project
    from compozy_prefect.errors import CompozyError, ProjectInvalid
    from compozy_prefect.flows.local import resume, run, signal
    from compozy_prefect.language.load import load as load_project

__version__ = "0.1.0"

_HOMES = {
    "CompiledProject": ("compozy_prefect.compiler.compile", "CompiledProject"),
    "CompozyError": ("compozy_prefect.errors", "CompozyError"),
    "ProjectInvalid": ("compozy_prefect.errors", "ProjectInvalid"),
    "check": ("compozy_prefect.compiler.compile", "check"),
    "compile_project": ("compozy_prefect.compiler.compile", "compile_project"),
    "load_project": ("compozy_prefect.language.load", "load"),
    "resume": ("compozy_prefect.flows.local", "resume"),
    "run": ("compozy_prefect.flows.local", "run"),
    "signal": ("compozy_prefect.flows.local", "signal"),
}

__all__ = [
    "CompiledProject",
    "CompozyError",
    "ProjectInvalid",
    "__version__",
    "check",
    "compile_project",
    "load_project",
    "resume",
    "run",
    "signal",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
