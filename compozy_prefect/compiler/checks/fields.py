"""Every template followed through the schemas of what it reads.

A field that a schema does not list is a warning, since most schemas are open; one that is read
from a text or a number can only fail, and is an error; a comparison that never holds is a warning.
What is unknown is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.places import places
from compozy_prefect.compiler.shapes import Shapes
from compozy_prefect.diagnostics import Diagnostic, error, warning


def fields(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        shapes = Shapes(checked)
        for place in places(checked.scope):
            if "{{" not in str(place.node.value) and not place.condition:
                continue
            for found in shapes.found(place):
                span = place.node.span_of(found.start, found.end)
                say = error if found.code == "CZ504" else warning
                yield say(found.code, found.message, span, found.hint)
