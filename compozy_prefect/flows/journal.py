"""What has happened in a run, kept through Prefect's result storage (design.md, decision 7).

A write to storage costs more than many a step, so that notes are written in groups: whoever is done
while a group is being written is in the next one. A step counts as completed when its group is in
the storage. The groups have numbers, because storages can read a name and cannot list.

Nothing is ever written twice, as no storage would refuse it: each term of the execution
(`flows.lease`) has groups of its own. Whoever takes the execution over reads those of the terms
before, and its own first group says how many it has found: what a process that had lost the
execution wrote after that is read by nobody.

What a step gave stands under its path. How one failed stands under `path@end`, and counts when the
run went on in spite of it: then `path@passed` says so, of the step or of a container around it. A
resumed run takes the same way again there, and runs nothing. A step that failed the run has no such
mark, and runs again.

Each batch of steps on a worker (`flows.batches`) writes a journal of its own, under a name that no
other one has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from uuid import UUID

from prefect.results import ResultStore

from compozy_prefect import faults
from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import RunError
from compozy_prefect.flows import lease
from compozy_prefect.runtime.scope import at_once

_FINISHED = "@finished"  # the run came to its end, and failed
OF_FLOW = "@journal"  # what the flow itself writes
_BEFORE = "@before"  # how many groups of each earlier term count, by its number


class Journal:
    """The notes of one execution by the path of the step, as an earlier process left them."""

    def __init__(
        self,
        store: ResultStore,
        root: UUID,
        term: int = lease.FIRST,
        permit: Callable[[], Awaitable[None]] = at_once,
        name: str = OF_FLOW,
    ) -> None:
        """`term` is that of this process; `permit` returns while it lasts, and not after.

        `name` is that of the journal among those of the execution `root`.
        """
        # The store of a flow drops the metadata, without which nothing can be read again, and
        # remembers what it has written, which `_kept` does.
        self.store = store.model_copy(
            update={"metadata_storage": None, "cache_result_in_memory": False}
        )
        self.root, self._name = root, name
        self._term, self._permit = term, permit
        self.groups = 0  # that were read or written
        self._kept: dict[str, Json] = {}
        self._next = 1
        self._group: dict[str, Json] = {}
        self._written: asyncio.Future[None] | None = None
        self._writer: asyncio.Task[None] | None = None

    async def load(self, top: Iterable[str]) -> None:
        """Reads what earlier processes kept.

        A run that came to its end and failed is run on to succeed: no failure of the steps in
        `top`, their ids, is passed over then, not even one that had a handler, and waits begin
        anew. Raises RunError when a group cannot be read, or another process writes this term.
        """
        if await self.exists():
            raise _not_ours()
        found: dict[int, list[dict[str, Json]]] = {}
        counting: dict[str, int] = {}
        for term in range(self._term - 1, 0, -1):
            found[term] = await self._groups(term, counting.get(str(term)))
            if found[term]:
                counting = found[term][0].pop(_BEFORE, {}) | counting
        for term in sorted(found):
            self.groups += len(found[term])
            for group in found[term]:
                self._kept |= group
        if found:
            self.note(_BEFORE, {str(term): len(groups) for term, groups in found.items()})
        if self._kept.pop(_FINISHED, False):
            ids = set(top)
            for where in list(self._kept):
                path, _, mark = where.rpartition("@")
                if mark == "until" or (mark == "passed" and path.partition("#")[0] in ids):
                    self._kept[where] = None
                    self.note(where, None)
            self.note(_FINISHED, False)

    async def read(self, most: int | None = None) -> None:
        """Reads what another process has written, as far as it has not been read.

        `most` are the groups that count. Raises RunError when one cannot be read.
        """
        groups = await self._groups(self._term, most, self.groups)
        self.groups += len(groups)
        for group in groups:
            self._kept |= group

    async def exists(self) -> bool:
        """Whether anything was written in this term."""
        return bool(await self.store.aexists(self._key(self._term, 1)))

    def notes(self) -> dict[str, Json]:
        """What there is by the path of a step, without what is about the journal itself."""
        return {where: value for where, value in self._kept.items() if where[:1] != "@"}

    def adopt(self, notes: Mapping[str, Json]) -> None:
        """Takes over what another journal of the execution holds, where this one says nothing."""
        self._kept = {**notes, **self._kept}

    async def _groups(self, term: int, most: int | None, after: int = 0) -> list[dict[str, Json]]:
        """The groups of a term: so many as a later one has found, and `most` says.

        The first `after` are left out.
        """
        found: list[dict[str, Json]] = []
        while most is None or after + len(found) < most:
            number = after + len(found) + 1
            key = self._key(term, number)
            if most is None and not await self.store.aexists(key):
                break
            try:
                found.append((await self.store.aread(key)).result)
            except ValueError as fault:
                next_key = self._key(term, number + 1)
                if most is not None or await self.store.aexists(next_key):
                    raise _not_read(fault) from None
                break  # the process died while it wrote: nobody relied on it
        return found

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
                await self._permit()
                await self.store.awrite(group, self._key(self._term, self._next))
                # Late, the next one may have read without it: then it does not count.
                await self._permit()
                await faults.point("journal.written")
            except Exception as fault:
                written.set_exception(_not_kept(fault))
                written.exception()  # looked at, also when everybody who waited was cancelled
            else:
                self._next += 1
                self.groups += 1
                written.set_result(None)
        self._writer = None

    def _key(self, term: int, number: int) -> str:
        place = f"{self.root}/{self._name}"
        # The groups of the first term stand where those of all terms once did.
        return f"{place}/{number:06}" if term == lease.FIRST else f"{place}/@{term}/{number:06}"


def _not_ours() -> RunError:
    message = "another process keeps results of this run, under the same term"
    return RunError(message, code="RESULT_NOT_KEPT", retryable=False)


def _not_read(fault: Exception) -> RunError:
    message = f"the results that were kept cannot be read: {fault}"
    return RunError(message, code="RESULT_NOT_READ", retryable=False)


def _not_kept(fault: Exception) -> RunError:
    return RunError(f"the result cannot be kept: {fault}", code="RESULT_NOT_KEPT", retryable=False)
