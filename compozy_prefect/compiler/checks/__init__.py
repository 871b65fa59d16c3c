"""The checks: one file a pass, and the pipeline is `PASSES`.

A pass is a pure function from a `Project` to diagnostics. It sees every workflow with its scope,
changes nothing and reports all that it finds; the order of the passes does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from compozy_prefect.compiler.checks.arguments import arguments
from compozy_prefect.compiler.checks.asked import asked
from compozy_prefect.compiler.checks.calls import calls
from compozy_prefect.compiler.checks.containers import containers
from compozy_prefect.compiler.checks.contents import contents
from compozy_prefect.compiler.checks.executors import executors
from compozy_prefect.compiler.checks.fields import fields
from compozy_prefect.compiler.checks.flow import flow
from compozy_prefect.compiler.checks.functions import functions
from compozy_prefect.compiler.checks.identities import identities
from compozy_prefect.compiler.checks.knowledge import knowledge
from compozy_prefect.compiler.checks.locks import locks
from compozy_prefect.compiler.checks.memories import memories
from compozy_prefect.compiler.checks.names import names
from compozy_prefect.compiler.checks.natives import natives
from compozy_prefect.compiler.checks.order import order
from compozy_prefect.compiler.checks.programs import programs
from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.checks.routes import routes
from compozy_prefect.compiler.checks.schemas import schemas
from compozy_prefect.compiler.checks.scripts import scripts
from compozy_prefect.compiler.checks.secrets import secrets
from compozy_prefect.compiler.checks.servers import servers
from compozy_prefect.compiler.checks.service import service
from compozy_prefect.compiler.checks.settings import settings
from compozy_prefect.compiler.checks.starts import starts
from compozy_prefect.compiler.checks.support import support
from compozy_prefect.compiler.checks.templates import templates
from compozy_prefect.compiler.checks.tools import tools
from compozy_prefect.compiler.checks.unused import unused
from compozy_prefect.diagnostics import Diagnostic

Pass = Callable[[Project], Iterator[Diagnostic]]

PASSES: tuple[Pass, ...] = (
    identities,
    names,
    executors,
    flow,
    schemas,
    contents,
    arguments,
    calls,
    templates,
    asked,
    order,
    fields,
    secrets,
    support,
    containers,
    routes,
    memories,
    servers,
    locks,
    starts,
    knowledge,
    tools,
    scripts,
    programs,
    functions,
    natives,
    service,
    settings,
    unused,
)


def check(project: Project) -> list[Diagnostic]:
    """What all passes find."""
    return [diagnostic for one in PASSES for diagnostic in one(project)]
