"""What has happened in a run, kept through Prefect's result storage (design.md, decision 7).

A write to storage costs more than many a step, so that notes are written in groups: whoever is done
while a group is being written is in the next one. A step counts as completed when its group is in
the storage. The groups have numbers, because storages can read a name and cannot list.

What a step gave stands under its path. How one failed stands under `path@end`, and counts when the
run went on in spite of it: then `path@passed` says so, of the step or of a container around it. A
resumed run takes the same way again there, and runs nothing. A step that failed the run has no such
mark, and runs again.

The process of the flow writes one journal, and so does each batch of steps on a worker: no two
processes write the same file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from uuid import UUID

from prefect.results import ResultStore

from compozy_prefect import faults
from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import RunError

_FINISHED = "@finished"  # the run came to its end, and failed
OF_FLOW = "@journal"  # what the flow itself writes


class Journal:
    """The notes of one execution by the path of the step, as earlier processes left them.

    `name` is that of the journal among those of the execution `root`.
    """

    def __init__(self, store: ResultStore, root: UUID, name: str = OF_FLOW) -> None:
        # The store of a flow drops the metadata, without which nothing can be read again, and
        # remembers what it has written, which `_kept` does.
        self.store = store.model_copy(
            update={"metadata_storage": None, "cache_result_in_memory": False}
        )
        self.root = root
        self._name = name
        self._kept: dict[str, Json] = {}
        self._next = 1
        self._group: dict[str, Json] = {}
        self._written: asyncio.Future[None] | None = None
        self._writer: asyncio.Task[None] | None = None

    async def load(self, top: Iterable[str]) -> None:
        """Reads what earlier processes kept.

        A run that came to its end and failed is run on to succeed: no failure of the steps in
        `top`, their ids, is passed over then, not even one that had a handler, and waits begin
        anew.
        """
        await self.read()
        if self._kept.pop(_FINISHED, False):
            ids = set(top)
            for where in list(self._kept):
                path, _, mark = where.rpartition("@")
                if mark == "until" or (mark == "passed" and path.partition("#")[0] in ids):
                    self._kept[where] = None
                    self.note(where, None)
            self.note(_FINISHED, False)

    async def read(self) -> None:
        """Reads what there is in the storage, as far as it has not been read."""
        while await self.store.aexists(self._key(self._next)):
            try:
                group = (await self.store.aread(self._key(self._next))).result
            except ValueError as fault:
                if await self.store.aexists(self._key(self._next + 1)):
                    raise _not_read(fault) from None
                break  # the process died while it wrote: nobody relied on it, and it is replaced
            self._kept |= group
            self._next += 1

    async def exists(self) -> bool:
        """Whether anything was ever written to it."""
        return bool(await self.store.aexists(self._key(1)))

    def notes(self) -> dict[str, Json]:
        """What there is by the path of a step, without what is about the journal itself."""
        return {where: value for where, value in self._kept.items() if where[:1] != "@"}

    def adopt(self, notes: Mapping[str, Json]) -> None:
        """Takes over what another journal of the execution holds, where this one says nothing."""
        self._kept = {**notes, **self._kept}

    def get(self, where: str) -> Json:
        return self._kept.get(where)

    def passed(self, where: str) -> bool:
        """Whether the run went on in spite of how the step had ended."""
        return self._kept.get(f"{where}@passed") is not None

    async def pass_over(self, where: str) -> None:
        """Notes that the run goes on in spite of how the step, or steps in it, ended."""
        await self.keep(f"{where}@passed", True)

    def end(self, where: str) -> Json:
        """How the step failed or was cancelled, as `note_end` was told; None without."""
        return self._kept.get(f"{where}@end")

    def note_end(self, where: str, end: Json) -> None:
        """Notes how a step failed or was cancelled. Nobody relies on it before `pass_over`."""
        self.note(f"{where}@end", end)

    def items(self) -> Iterable[tuple[str, Json]]:
        return self._kept.items()

    def note(self, where: str, value: Json) -> None:
        """Puts the value into the next group, whenever that is written."""
        self._group[where] = value

    async def finish(self) -> None:
        """Notes that the run came to its end, and failed."""
        await self.keep(_FINISHED, True)

    async def keep(self, where: str, value: Json) -> None:
        """Returns when the value is in the storage. Raises RunError when it cannot be."""
        self.note(where, value)
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        # The group belongs to others too: one that is cancelled must not cancel it.
        await asyncio.shield(self._written)

    async def _write(self) -> None:
        while self._written is not None:
            group, written = self._group, self._written
            self._group, self._written = {}, None
            try:
                await faults.point("journal.writing")
                await self.store.awrite(group, self._key(self._next))
                await faults.point("journal.written")
            except Exception as fault:
                written.set_exception(_not_kept(fault))
                written.exception()  # looked at, also when everybody who waited was cancelled
            else:
                self._next += 1
                written.set_result(None)
        self._writer = None

    def _key(self, number: int) -> str:
        return f"{self.root}/{self._name}/{number:06}"


def _not_read(fault: Exception) -> RunError:
    message = f"the results that were kept cannot be read: {fault}"
    return RunError(message, code="RESULT_NOT_READ", retryable=False)


def _not_kept(fault: Exception) -> RunError:
    return RunError(f"the result cannot be kept: {fault}", code="RESULT_NOT_KEPT", retryable=False)
