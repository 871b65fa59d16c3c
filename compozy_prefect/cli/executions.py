"""`compozy runs`, `show`, `signal`, `cancel`, `pause` and `resume`: executions, running or not."""

from __future__ import annotations

import asyncio
import json as json_
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from compozy_prefect.cli import DONE
from compozy_prefect.cli.app import SETTINGS
from compozy_prefect.cli.output import note, print_json
from compozy_prefect.diagnostics import printable
from compozy_prefect.errors import UsageError
from compozy_prefect.flows import local
from compozy_prefect.flows.executions import Executions

if TYPE_CHECKING:
    from compozy_prefect.flows.revive import Rescheduled
    from compozy_prefect.flows.story import Listed, Story, Told

Json = Annotated[bool, Parameter(negative="")]

_LONGEST = 100  # steps of a story that are printed; `--json` has all


def runs(*, limit: int = 20, json: Json = False) -> int:
    """List the latest executions, the newest first.

    Parameters
    ----------
    limit
        How many, at most.
    json
        Print them as a list of objects.
    """
    if limit < 1:
        raise UsageError(f"--limit is {limit}; it must be 1 or more")
    local.reach(note)

    from compozy_prefect.flows.story import runs as latest

    found = asyncio.run(latest(limit))
    if json:
        print_json([one.to_json() for one in found])
    elif found:
        print(printable(_table([_HEAD, *map(_line, found)])))
    else:
        note("no executions yet; `compozy run` starts one")
    return DONE


def show(execution: str, /, *, json: Json = False) -> int:
    """Tell the story of an execution: its steps, where it stands, and what it gave.

    Parameters
    ----------
    execution
        Its id, or the beginning of it.
    json
        Print it as an object.
    """
    id = Executions.here().resolve(execution)
    local.reach(note)

    from compozy_prefect.flows.story import story

    told = asyncio.run(story(id))
    if json:
        print_json(told.to_json())
    else:
        print(printable(_told(told)))
    return DONE


def signal(
    execution: str,
    name: str,
    /,
    *,
    data: Annotated[str | None, Parameter(alias="-d", allow_leading_hyphen=True)] = None,
) -> int:
    """Send a signal to an execution that waits for it, or will.

    Parameters
    ----------
    execution
        Its id, or the beginning of it.
    name
        The name of the signal.
    data
        The payload as JSON, or @FILE to read it from a file (`@-` reads stdin).
    """
    payload = {} if data is None else _payload(data)
    sent = local.signal(execution, name, payload, notify=note)
    if sent.awaited:
        note(f"signal `{name}` delivered to execution {sent.execution_id}")
    else:
        note(f"signal `{name}` kept for execution {sent.execution_id}: nothing waits for it now")
    if sent.alive is False:
        note(f"its process has ended; `compozy resume {sent.execution_id}` continues it")
    return DONE


def cancel(execution: str, /) -> int:
    """Cancel an execution.

    Parameters
    ----------
    execution
        Its id, or the beginning of it.
    """
    id = Executions.here().resolve(execution)
    local.reach(note)

    from compozy_prefect.flows.control import cancel as end

    state = asyncio.run(end(id)).state
    if state is not None and state.is_final():
        note(f"execution {id} is over: {state.name}")
        return DONE
    note(f"execution {id} was asked to end, and has not yet; `compozy show {id}` says more")
    return DONE


def pause(execution: str, /) -> int:
    """Hold an execution before its next step. `compozy resume` lets it go on.

    Parameters
    ----------
    execution
        Its id, or the beginning of it.
    """
    id = Executions.here().resolve(execution)
    local.reach(note)

    from compozy_prefect.flows.control import pause as hold

    asyncio.run(hold(id))
    note(f"execution {id} begins no further step; `compozy resume {id}` lets it go on")
    return DONE


def resume(
    execution: str,
    /,
    *,
    mocks: Path | None = None,
    offline: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> int:
    """Continue an execution that was paused, or whose process ended before the workflow did.

    A paused one goes on in its own process. Otherwise this process runs it to its end: what it
    had completed is not done again, and it goes on with the plan, the mocks and the `--offline`
    it began with, unless others are given.

    One of a deployment is scheduled again instead, and goes on in a process of a worker.

    Parameters
    ----------
    execution
        Its id, or the beginning of it.
    mocks
        A YAML file with the answers of agents and tools.
    offline
        Answer agents without a network, with made-up data of the right shape.
    json
        Print the whole result: status, output, tasks, usage. Of a deployed one, print its
        execution_id and ui_url.
    """
    from compozy_prefect.cli.run import Progress, finish

    id = Executions.here().resolve(execution)
    if (pid := Executions.here().holder(id)) is not None:
        local.reach(note)
        from compozy_prefect.flows.control import release

        if asyncio.run(release(id)):
            note(f"execution {id} goes on, in process {pid}")
            return DONE
    logging.raiseExceptions = False  # a server that is gone is our sentence to say, not its log's
    result = local.resume(
        id,
        offline=offline,
        mocks=mocks,
        env_file=SETTINGS.env_file,
        observer=Progress(),
        notify=note,
    )
    from compozy_prefect.flows.revive import Rescheduled

    return _said(result, json) if isinstance(result, Rescheduled) else finish(result, json)


def _said(one: Rescheduled, json: bool) -> int:
    from compozy_prefect.flows.server import worker_command

    note(f"{one.message}\n{one.ui_url}")
    if one.pool is None:
        note("a process that serves its deployment takes it")
    elif one.workers:
        note(f"a worker of the work pool `{one.pool}` takes it")
    else:
        note(f"no worker of the work pool `{one.pool}` is there: {worker_command(one.pool)}")
    if json:
        print_json(one.to_json())
    return DONE


def _payload(text: str) -> Any:
    """The data of a signal. Raises UsageError for what is no JSON object."""
    source = "-d"
    if text.startswith("@"):
        source = "stdin" if text == "@-" else text[1:]
        try:
            raw = sys.stdin.buffer.read() if text == "@-" else Path(source).read_bytes()
            text = raw.decode()
        except OSError as fault:
            reason = (fault.strerror or str(fault)).lower()
            raise UsageError(f"{source} cannot be read: {reason}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{source} is not UTF-8") from None
    try:
        value = json_.loads(text)
    except (ValueError, RecursionError) as fault:
        raise UsageError(f"{source} is no JSON: {fault}") from None
    if not isinstance(value, dict):
        raise UsageError(f'{source}: the data of a signal is an object, such as {{"ok": true}}')
    return value


# --- text -----------------------------------------------------------------------------------------

_HEAD = ("EXECUTION", "WORKFLOW", "STATUS", "STARTED", "DURATION", "NAME")


def _line(run: Listed) -> tuple[str, ...]:
    started = (run.started or "")[:19].replace("T", " ")
    status = run.status
    if run.alive is False and status in ("RUNNING", "WAITING", "PAUSED", "PENDING"):
        status += " (no process)"
    return (run.execution_id, run.workflow_id, status, started, _seconds(run), run.name)


def _seconds(run: Listed | Told) -> str:
    seconds = run.duration_seconds
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} m {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} m"


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _told(story: Story) -> str:
    run = story.run
    out = [f"{run.workflow_id}  {run.status}  {run.execution_id}", f"name      {run.name}"]
    out.append(f"started   {run.started or 'not yet'}, {_seconds(run)}")
    out.append(f"process   {_process(story)}")
    if run.status == "PAUSED" and story.pid is not None:
        out.append(f"stands    held; `compozy resume {run.execution_id}` lets it go on")
    if story.waits_for:
        out.append(f"stands    waits for signal `{story.waits_for}`")
    out.append(f"input     {json_.dumps(story.input, ensure_ascii=False)}")
    if story.steps:
        out += ["", _table([_step(step) for step in story.steps[:_LONGEST]])]
    if len(story.steps) > _LONGEST:
        out.append(f"… and {len(story.steps) - _LONGEST} more steps; --json has all")
    if story.error is not None:
        out += ["", f"error     {_message(story.error)}"]
    if run.status == "SUCCESS":
        out += ["", json_.dumps(story.output, indent=2, ensure_ascii=False)]
    if story.resumable:
        out += ["", f"`compozy resume {run.execution_id}` continues it"]
    return "\n".join([*out, "", story.ui_url])


def _process(story: Story) -> str:
    if story.pid is not None:
        return f"{story.pid or 'one that does not say its number'}, running"
    return "not of this machine" if story.run.alive is None else "none"


def _step(step: Told) -> tuple[str, ...]:
    again = f"{step.attempts} attempts" if step.attempts > 1 else ""
    said = _message(step.error) if step.error else ""
    return ("", step.id, step.type, step.status, _seconds(step), again, said)


def _message(error: dict[str, Any]) -> str:
    place = f"  ({error['file']}:{error['line']}:{error['column']})" if "file" in error else ""
    return " ".join(error["message"].split()) + place
