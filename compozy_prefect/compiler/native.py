"""`runtime.native_tools` → its plan: folders, programs, and what their arguments may be (§6.5)."""

from __future__ import annotations

from compozy_prefect.compiler.plan import ArgumentPlan, CommandPlan, ExecPlan, NativePlan
from compozy_prefect.language.models.native import AllowedCommand, NativeTools


def native_plan(given: NativeTools | None) -> NativePlan:
    if given is None:
        return NativePlan()
    roots = (given.root_dir, *given.additional_roots)
    run = given.exec
    if run is None:
        return NativePlan(given.enabled, roots)
    allowed = tuple(
        CommandPlan(one) if isinstance(one, str) else _command(one) for one in run.allowlist
    )
    limits = ExecPlan(run.timeout, run.max_stdout_bytes, run.max_stderr_bytes, allowed)
    return NativePlan(given.enabled, roots, limits)


def _command(given: AllowedCommand) -> CommandPlan:
    return CommandPlan(
        path=given.path,
        timeout=given.timeout or 0.0,
        max_args=-1 if given.max_args is None else given.max_args,
        arguments=tuple(
            ArgumentPlan(
                index=at if one.index is None else one.index,
                name=one.name or "",
                pattern=one.pattern or "",
                enum=tuple(one.enum),
                optional=one.optional,
            )
            for at, one in enumerate(given.arguments)
        ),
        additional=given.allow_additional_args,
    )
