"""A compiled project → one run of one of its workflows, here and now.

What `compozy run` and `compozy_prefect.run` share: everything that can be refused before Prefect
is imported is refused first, then a server is found or started, then the flow runs.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compozy_prefect.compiler.compile import CompiledProject, compile_project
from compozy_prefect.compiler.plan import StepPlan, WorkflowPlan
from compozy_prefect.errors import CompozyError, UsageError
from compozy_prefect.flows.executions import Executions, Origin, Record
from compozy_prefect.flows.runners import runner_of
from compozy_prefect.runtime.inputs import check_input
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.services import Services, asks_a_provider, warm

if TYPE_CHECKING:
    from compozy_prefect.flows.control import Delivered
    from compozy_prefect.flows.observer import Observer
    from compozy_prefect.flows.revive import Rescheduled
    from compozy_prefect.flows.run import RunResult
    from compozy_prefect.flows.server import Server
    from compozy_prefect.runtime.cassette import Cassette

Notify = Callable[[str], None]


def run(
    project: CompiledProject | Path | str,
    workflow: str | None = None,
    *,
    input: Mapping[str, Any] | None = None,
    offline: bool = False,
    mocks: Mocks | Mapping[str, Any] | Path | str | None = None,
    cassette: Cassette | None = None,
    env_file: Path | None = None,
    observer: Observer | None = None,
    notify: Notify | None = None,
) -> RunResult:
    """Runs a workflow as a Prefect flow in this process and waits for its end.

    `project` is a compiled project or the path of one; `workflow` may be left out when there is
    only one. `offline` answers agents without a network, `mocks` (a file or a mapping) answer
    instead of the agents and tools they name, and a `cassette` (see `cassette()`) is recorded or
    answers. `notify` gets a sentence about what takes time.

    A workflow that fails gives a result whose `status` says so. Raises ProjectInvalid,
    InputInvalid, MissingKey and UsageError before anything starts, ServerUnavailable when there
    is no Prefect server to be had. Not for use inside of a running event loop.
    """
    if not isinstance(project, CompiledProject):
        project = compile_project(project, env_file=env_file)
    workflow_id = project.only_workflow(workflow)
    answers = _mocks(mocks)
    plan = project.plan.workflows[workflow_id]
    env = {**os.environ, **project.env}
    given = dict(input or {})
    replays = cassette is not None and cassette.replays
    refuse(plan, given, env, offline=offline or replays, mocks=answers)
    runner_of(project.plan, env)
    services = connect(
        plan,
        env,
        offline=offline,
        mocks=answers,
        cassette=cassette,
        notify=notify,
        root=project.root,
    )

    from compozy_prefect.flows.run import run_sync

    collect_garbage()
    origin = Origin(project.root, env_file, keys_in_files=bool(project.lowered.secrets))
    return run_sync(
        project.plan, workflow_id, given, services=services, observer=observer, origin=origin
    )


def resume(
    execution_id: str,
    *,
    offline: bool = False,
    mocks: Mocks | Mapping[str, Any] | Path | str | None = None,
    env_file: Path | None = None,
    observer: Observer | None = None,
    notify: Notify | None = None,
) -> RunResult | Rescheduled:
    """Runs on an execution whose process ended before the workflow did, and waits for its end.

    It may have been killed, have failed, have been cancelled or have been waiting; what it had
    completed is not done again. The plan is the one it began with, also when the files have
    changed since. `offline` and `mocks` are those it began with unless given; keys are read anew
    from the environment and the project's `.env`. `execution_id` may be the beginning of one.

    One of a deployment is scheduled again, for a worker to take it, and not waited for: the result
    then is a Rescheduled, with the status PENDING. Plan, mocks and keys are those of the worker.

    Raises UsageError for an execution that is running, has succeeded or was not started by this
    user on this machine, and ServerUnavailable. Not for use inside of a running event loop.
    """
    executions = Executions.here()
    id = executions.resolve(execution_id)
    record = executions.find(id) or _adopted(id, notify)
    if record is None:
        from compozy_prefect.flows.revive import resume as reschedule

        tell = notify or (lambda line: None)
        rescheduled = asyncio.run(reschedule(id, tell, as_it_is=not offline and mocks is None))
        if rescheduled is not None:
            return rescheduled
        raise UsageError(
            f"execution {id} was not started by this user on this machine, or there is no such "
            "one; `compozy runs` lists what there is"
        )
    with executions.lease(id):
        pass  # refused before anything is imported; the one that counts is taken with the run
    plan = executions.plan_of(record)
    answers = _mocks(record.mocks if mocks is None else mocks)
    origin = record.origin if env_file is None else replace(record.origin, env_file=env_file)
    offline = offline or record.offline
    env = {**os.environ, **_environment(origin)}
    workflow = plan.workflows[record.workflow]
    runner_of(plan, env)
    tape = cassette(None, record.cassette, loose=record.loose)
    services = connect(
        workflow,
        env,
        offline=offline,
        mocks=answers,
        cassette=tape,
        notify=notify,
        root=origin.root,
    )

    from compozy_prefect.flows.resume import resume_sync

    collect_garbage()
    return resume_sync(record, plan, services=services, observer=observer)


def signal(
    execution_id: str, name: str, payload: Any = None, *, notify: Notify | None = None
) -> Delivered:
    """Gives a signal to an execution that waits for it, or will.

    Raises UsageError when there is no such execution, or it is over, and ServerUnavailable.
    """
    id = Executions.here().resolve(execution_id)
    reach(notify)

    from compozy_prefect.flows.control import send

    return asyncio.run(send(id, name, {} if payload is None else payload))


def _adopted(id: str, notify: Notify | None) -> Record | None:
    """The record of a run that the server knows, and whose process died before it had one."""
    reach(notify)
    from compozy_prefect.flows.resume import adopted

    try:
        return asyncio.run(adopted(id))
    except UsageError:
        return None


def _environment(origin: Origin) -> dict[str, str]:
    """What the files of a project add to the environment, as far as they can be read."""
    if origin.root is not None and origin.keys_in_files:
        # Keys stand in the files themselves, and what compiles them knows their names.
        with suppress(CompozyError, OSError):
            return dict(compile_project(origin.root, env_file=origin.env_file).env)
    if origin.env_file is not None:
        return _dotenv(origin.env_file)
    return dotenv(origin.root / ".env") if origin.root is not None else {}


def dotenv(file: Path) -> dict[str, str]:
    """What a `.env` sets, if there is one. Raises UsageError when it cannot be read."""
    return _dotenv(file) if file.is_file() else {}


def _dotenv(file: Path) -> dict[str, str]:
    from compozy_prefect.diagnostics import SourceText
    from compozy_prefect.language.dotenv import read_env

    try:
        text = file.read_text("utf-8-sig", "replace")
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise UsageError(f"{file} cannot be read: {reason}") from None
    return read_env(SourceText(file.name, text))[0]


def collect_garbage() -> None:
    """Turns the collector on, which the command line has off while modules are imported."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def refuse(
    workflow: WorkflowPlan,
    input: Mapping[str, Any],
    env: Mapping[str, str],
    *,
    offline: bool,
    mocks: Mocks | None,
) -> None:
    """Raises what can be known to fail before anything starts: InputInvalid, MissingKey."""
    check_input(workflow, input)
    if not offline:
        for step in _certain(workflow):
            _check_key(workflow, step, env, mocks)


def connect(
    workflow: WorkflowPlan,
    env: Mapping[str, str],
    *,
    offline: bool,
    mocks: Mocks | None,
    cassette: Cassette | None = None,
    notify: Notify | None = None,
    root: Path | None = None,
) -> Services:
    """Finds or starts a Prefect server for this process, and makes the services of a run.

    Prefect reads its settings when it is imported, so this comes before its first import.
    """
    replays = cassette is not None and cassette.replays
    warm(workflow, offline=offline or replays, mocks=mocks)
    reach(notify)
    from compozy_prefect.flows.limits import SharedLimits

    return Services.create(
        offline=offline,
        mocks=mocks,
        env=env,
        cassette=cassette,
        shared=SharedLimits(),
        root=root,
    )


def reach(notify: Notify | None = None) -> Server:
    """Finds or starts a Prefect server, and points this process at it."""
    from compozy_prefect.flows import server

    found = server.ensure(notify=notify)
    server.apply(found)
    _quiet(os.environ)
    if found.managed:
        _loopback(os.environ)
    return found


def _quiet(environ: MutableMapping[str, str]) -> None:
    """Prefect's log goes to the server; on the console it would drown what we say."""
    environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")
    environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    environ.setdefault("DO_NOT_TRACK", "1")


def _loopback(environ: MutableMapping[str, str]) -> None:
    """What a client of our own server on 127.0.0.1 need not do.

    Ask for its version, ask for a token against forged requests of browsers, and read all root
    certificates, seven times a process, for connections that have no TLS: half a second of CPU.
    """
    environ.setdefault("PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED", "false")
    environ.setdefault("PREFECT_CLIENT_CSRF_SUPPORT_ENABLED", "false")
    with suppress(OSError, ValueError):
        environ.setdefault("PREFECT_API_SSL_CERT_FILE", str(_one_certificate(environ)))


def _one_certificate(environ: Mapping[str, str]) -> Path:
    """A file with a single root certificate, which is all that has to be read."""
    import certifi

    file = Path(environ["PREFECT_HOME"]) / "certificate.pem"
    if not file.exists():
        end = "-----END CERTIFICATE-----\n"
        bundle = Path(certifi.where()).read_text("utf-8")
        first = bundle[bundle.index("-----BEGIN CERTIFICATE-----") : bundle.index(end) + len(end)]
        partial = file.with_suffix(f".{os.getpid()}")
        partial.write_text(first, "utf-8")
        partial.replace(file)
    return file


def cassette(
    record: Path | str | None, replay: Path | str | None, *, loose: bool = False
) -> Cassette | None:
    """The cassette that is to be recorded, or replayed; None for neither. Raises UsageError."""
    from compozy_prefect.runtime.cassette import Cassette

    if record and replay:
        raise UsageError("--record and --replay exclude each other")
    if loose and not replay:
        raise UsageError("--replay-loose says how --replay answers, which is not there")
    if record:
        return Cassette.record(record)
    return Cassette.replay(replay, strict=not loose) if replay else None


def _mocks(given: Mocks | Mapping[str, Any] | Path | str | None) -> Mocks | None:
    if given is None or isinstance(given, Mocks):
        return given
    return Mocks.from_mapping(given) if isinstance(given, Mapping) else Mocks.from_file(given)


def _certain(workflow: WorkflowPlan) -> Iterator[StepPlan]:
    """The steps of a run in which nothing fails and nothing is skipped."""
    step, seen = workflow.by_id.get(workflow.start), set()
    while step is not None and step.id not in seen:
        seen.add(step.id)
        if not step.condition:
            yield from _with_children(step)
        step = workflow.by_id.get(step.on_success.next)


def _with_children(step: StepPlan) -> Iterator[StepPlan]:
    """A step, and those in it that run whenever it does."""
    yield step
    if step.type in ("parallel", "composite"):
        for child in step.steps:
            if not child.role and not child.condition:
                yield from _with_children(child)


def _check_key(
    workflow: WorkflowPlan, step: StepPlan, env: Mapping[str, str], mocks: Mocks | None
) -> None:
    """Raises MissingKey. A key that depends on the step's own environment is left to the step."""
    if not asks_a_provider(workflow, step, mocks):
        return
    assert step.agent is not None
    from compozy_prefect.expressions import Environment, parse
    from compozy_prefect.runtime.llm.keys import resolve_key

    agent = workflow.agents[step.agent.agent]
    nearer = workflow.env.keys() | step.env.keys() | agent.env.keys()
    template = parse(agent.model.api_key)
    if any(
        read.segments[0] == "blocks"
        or (read.segments[:1] == ("env",) and set(read.segments) & nearer)
        for read in template.reads
    ):
        return
    rendered = template.text({"env": env}, Environment(env=env))
    resolve_key(agent.model, rendered, env)
