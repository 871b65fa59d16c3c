"""What outlives the process of a local run: how it was started, and whether it still lives.

    $COMPOZY_HOME/plans/<hash>.json        the plan that runs, whatever became of the files
    $COMPOZY_HOME/executions/<key>.begun   a run that Prefect is about to be asked for
    $COMPOZY_HOME/executions/<id>.json     how the run was started
    $COMPOZY_HOME/executions/<id>.lock     locked while a process carries the run

The states of runs are Prefect's and are not copied (design.md, decision 8). The lock is the lease:
the kernel frees it when its holder dies, however it dies. Only the standard library and the plan
are imported, so that a mistake is told before Prefect is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from compozy_prefect.compiler.plan import Json, Plan, loads
from compozy_prefect.errors import UsageError
from compozy_prefect.flows.server_state import server_home

SHORTEST = 4  # characters of an id that may stand for it
KEPT = 30 * 24 * 3600.0  # seconds for which what a finished run has left is kept
PRUNED_EVERY = 24 * 3600.0  # seconds
# Whoever looks whether a run lives holds its lock for an instant, and must not be taken for it.
_PATIENCE = 0.5


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the environment of a run comes from, to be read again when it is resumed.

    `root` is the project's directory. `keys_in_files`: keys of providers stand in the project's
    own files, and are found by compiling it.
    """

    root: Path | None = None
    env_file: Path | None = None
    keys_in_files: bool = False


NOWHERE = Origin()


@dataclass(frozen=True, slots=True)
class Record:
    """How an execution was started. Keys and passwords are no part of it: `origin` has them.

    `plan` is the plan's hash, `pid` the process that had the run last. `done` is the time of its
    success, in seconds since 1970; everything that has none can be resumed. `cassette` is the path
    of the one that answers, perhaps `loose`ly, or that the run `records`.
    """

    id: str
    workflow: str
    plan: str
    offline: bool = False
    mocks: Json = None
    cassette: str | None = None
    loose: bool = False
    records: bool = False
    root: str | None = None
    env_file: str | None = None
    keys_in_files: bool = False
    pid: int = 0
    done: float | None = None

    @property
    def origin(self) -> Origin:
        root = Path(self.root) if self.root else None
        return Origin(root, Path(self.env_file) if self.env_file else None, self.keys_in_files)


@dataclass(frozen=True, slots=True)
class Executions:
    """The executions of this user on this machine. `home` is `$COMPOZY_HOME`."""

    home: Path

    @classmethod
    def here(cls, environ: Mapping[str, str] = os.environ) -> Executions:
        return cls(server_home(environ).path.parent)

    def announce(self, record: Record, plan: Plan) -> None:
        """Writes what a resumed run needs, before Prefect has the run. Raises OSError.

        `record.id` is the idempotency key under which Prefect is asked for it, so that a process
        that dies in between leaves nothing that nobody knows: `adopt` gives the run its record.
        """
        # Always, as the places in the files are no part of the hash and may have moved.
        _write(self._plan(plan.hash), plan.dumps())
        _write(self._announced(record.id), _text(record))
        self._prune()

    def adopt(self, key: str, id: str) -> Record | None:
        """The record of the run that was announced under the key; from now on it is that of `id`.

        None when there is none. Raises OSError.
        """
        announced = self._announced(key)
        record = _read(announced)
        if record is None:
            return None
        record = replace(record, id=id)
        self._store(record)
        announced.unlink(missing_ok=True)
        return record

    def forget(self, key: str) -> None:
        """Leaves nothing by which the run that was announced under the key could be resumed."""
        with contextlib.suppress(OSError):
            self._announced(key).unlink(missing_ok=True)

    def carried_on(self, record: Record) -> None:
        """Notes which process has the run now, and with which answers. Raises OSError."""
        self._store(replace(record, pid=os.getpid()))

    def succeeded(self, id: str) -> None:
        """Notes that nothing is left to be resumed. Raises OSError."""
        record = self.find(id)
        if record is not None:
            self._store(replace(record, done=time.time()))

    def find(self, id: str) -> Record | None:
        """How the run was started; None when it was not started here."""
        return _read(self._record(id))

    def plan_of(self, record: Record) -> Plan:
        """The plan that the run began with. Raises UsageError when it is gone or damaged."""
        file = self._plan(record.plan)
        try:
            return loads(file.read_text("utf-8", "surrogatepass"))
        except (OSError, ValueError) as fault:
            reason = fault.strerror if isinstance(fault, OSError) else fault
            raise UsageError(
                f"the plan that execution {record.id} began with cannot be read from {file}: "
                f"{reason}"
            ) from None

    def resolve(self, text: str) -> str:
        """The id that is meant: a whole one, or the beginning of one of the runs here.

        Raises UsageError when there is no such run, or more than one.
        """
        with contextlib.suppress(ValueError):
            return str(UUID(text))
        begins = text.strip().lower()
        if len(begins) < SHORTEST or set(begins) - set("0123456789abcdef-"):
            raise UsageError(
                f"{text!r} is no execution: an id looks like 0f8c3f6e-…, and its first {SHORTEST} "
                "characters or more may stand for it; `compozy runs` lists them"
            )
        found = sorted(file.stem for file in self._records() if file.stem.startswith(begins))
        if not found:
            raise UsageError(
                f"no execution that was started here begins with `{begins}`; "
                "`compozy runs` lists them"
            )
        if len(found) > 1:
            raise UsageError(f"`{begins}` may be any of {', '.join(found[:10])}")
        return found[0]

    # --- the lease ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lease(self, id: str) -> Iterator[None]:
        """Holds the run for this process. Raises UsageError when another one has it."""
        deadline = time.monotonic() + _PATIENCE
        while (file := _locked(self._lock(id))) is None:
            if time.monotonic() > deadline:
                pid = self.holder(id)
                which = f"process {pid}" if pid else "another process"
                raise UsageError(f"execution {id} is running, in {which}")
            time.sleep(0.02)
        try:
            os.ftruncate(file, 0)
            os.write(file, str(os.getpid()).encode())
            yield
        finally:
            self._lock(id).unlink(missing_ok=True)  # while it is locked: nobody else's is lost
            os.close(file)

    def holder(self, id: str) -> int | None:
        """The process that carries the run, 0 if it does not say; None when there is none."""
        try:
            file = os.open(self._lock(id), os.O_RDONLY)
        except OSError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(file, 32)
            return int(text) if text.isdigit() else 0
        else:
            return None
        finally:
            os.close(file)

    # --- files ----------------------------------------------------------------------------------

    def _plan(self, hash: str) -> Path:
        return self.home / "plans" / f"{hash}.json"

    def _record(self, id: str) -> Path:
        return self.home / "executions" / f"{id}.json"

    def _announced(self, key: str) -> Path:
        # A key may be made of paths of steps.
        return self.home / "executions" / f"{sha256(key.encode()).hexdigest()[:32]}.begun"

    def _lock(self, id: str) -> Path:
        file = self.home / "executions" / f"{id}.lock"
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return file

    def _records(self) -> list[Path]:
        return list((self.home / "executions").glob("*.json"))

    def _store(self, record: Record) -> None:
        _write(self._record(record.id), _text(record))

    def _prune(self) -> None:
        """Once a day: what successful runs have left long ago, and plans that nothing needs.

        A run that failed, was cancelled or died can be resumed, and is kept.
        """
        mark, now = self.home / "executions" / ".pruned", time.time()
        if _age(mark, now) < PRUNED_EVERY:
            return
        mark.touch()
        needed: set[str] = set()
        for file in self._records():
            record = self.find(file.stem)
            if record is None:
                continue
            if record.done is None or now - record.done < KEPT:
                needed.add(record.plan)
                continue
            file.unlink(missing_ok=True)
            self._lock(record.id).unlink(missing_ok=True)
        for file in (self.home / "executions").glob("*.begun"):
            if _age(file, now) > KEPT:
                file.unlink(missing_ok=True)
            elif announced := _read(file):
                needed.add(announced.plan)
        for file in (self.home / "plans").glob("*.json"):
            # A young one may belong to a run that is about to write its record.
            if file.stem not in needed and _age(file, now) > KEPT:
                file.unlink(missing_ok=True)


def _locked(path: Path) -> int | None:
    """The file, open and locked; None while another process has it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it before may have removed it: then the lock is on nothing.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(file).st_ino == path.stat().st_ino:
                    return file
        except BlockingIOError:
            os.close(file)
            return None
        os.close(file)


def _text(record: Record) -> str:
    data = {field.name: getattr(record, field.name) for field in fields(Record)}
    return json.dumps(data, default=str) + "\n"


def _read(file: Path) -> Record | None:
    try:
        data = json.loads(file.read_text("utf-8"))
        return Record(**{field.name: data[field.name] for field in fields(Record)})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(path: Path, text: str) -> None:
    """Replaces a file in one step, so that no reader sees half of it; only the owner reads it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(file, "wb") as stream:
        stream.write(text.encode("utf-8", "surrogatepass"))
    part.replace(path)


def _age(path: Path, now: float) -> float:
    try:
        return now - path.stat().st_mtime
    except OSError:
        return float("inf")
