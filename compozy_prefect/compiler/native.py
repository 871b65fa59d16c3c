"""`runtime.native_tools` → its plan: folders, programs and their arguments, and the web (§6.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from compozy_prefect.compiler.builtins import FAMILIES
from compozy_prefect.compiler.plan import (
    ArgumentPlan,
    CallPlan,
    CommandPlan,
    ExecPlan,
    FetchPlan,
    NativePlan,
)
from compozy_prefect.language.models.native import (
    AllowedCommand,
    CallSettings,
    ExecSettings,
    FetchSettings,
    NativeTools,
)


def native_plan(given: NativeTools | None) -> NativePlan:
    if given is None:
        return NativePlan()
    roots = (given.root_dir, *given.additional_roots)
    exec, fetch = _exec(given.exec), _fetch(given.fetch)
    return NativePlan(given.enabled, roots, exec, fetch, dict(_calls(given)))


def _calls(given: NativeTools) -> Iterator[tuple[str, CallPlan]]:
    for family in FAMILIES:
        for tool in (family.one, family.several):
            own: CallSettings | None = getattr(given, tool.removeprefix("cp__"))
            if not given.enabled:
                yield tool, replace(family.bounds, enabled=False)
            elif own is not None:
                yield tool, CallPlan(own.default_timeout, own.max_concurrent, own.enabled)


def _exec(run: ExecSettings | None) -> ExecPlan:
    if run is None:
        return ExecPlan()
    allowed = tuple(
        CommandPlan(one) if isinstance(one, str) else _command(one) for one in run.allowlist
    )
    return ExecPlan(run.timeout, run.max_stdout_bytes, run.max_stderr_bytes, allowed)


def _fetch(given: FetchSettings | None) -> FetchPlan:
    if given is None:
        return FetchPlan()
    methods = tuple(given.allowed_methods)
    return FetchPlan(given.timeout, given.max_body_bytes, given.max_redirects, methods)


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
