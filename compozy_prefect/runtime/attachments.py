"""The attachments of a task, its agent and the action → parts of the prompt (language.md §12.2).

Files are read from the project's directory, addresses are fetched, and what was found has to be of
a type that the settings allow. A cassette keeps what a fetched file was, and answers with that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from compozy_prefect.compiler.plan import AttachmentLimits, AttachmentPlan, Json, pointer
from compozy_prefect.runtime import files
from compozy_prefect.runtime.files import failed
from compozy_prefect.runtime.llm import media

if TYPE_CHECKING:
    from compozy_prefect.runtime.cassette import Cassette

Text = Callable[[str, str], str]  # a template and its place → its text
_SHARED = frozenset({"file", "url"})  # types that are whatever the file is


@dataclass(frozen=True, slots=True)
class Written:
    """An attachment as the plan has it, and the JSON pointer to it."""

    plan: AttachmentPlan
    at: str


@dataclass(frozen=True, slots=True)
class _Source:
    """One file, a path or an address. `template` is the address as the file has it."""

    kind: str
    name: str
    mime: str
    timeout: float = 0.0
    path: Path | None = None
    url: str = ""
    template: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """The same for two attachments of the same file."""
        if self.path is not None:
            return self.kind, str(self.path)
        parts = urlsplit(self.url)
        where = parts._replace(
            scheme=parts.scheme.lower(), netloc=parts.netloc.lower(), fragment=""
        )
        return self.kind, where.geturl()


@dataclass(frozen=True, slots=True)
class Attachments:
    """How the attachments of one question are found.

    `root` is the project's directory. `fetched_there`: whoever answers fetches images itself.
    `is_real`: a provider answers; nothing is fetched for another one. `permissions` are those of
    the project.
    """

    root: Path
    limits: AttachmentLimits
    cassette: Cassette | None
    fetched_there: bool
    is_real: bool
    permissions: tuple[str, ...] = ()

    async def parts(self, written: Iterable[Written], text: Text) -> tuple[media.Part, ...]:
        """The parts, those of the task first. Of two of the same file the later one holds.

        Raises RunError when one cannot be had.
        """
        found: dict[tuple[str, str], _Source] = {}
        for one in written:
            for source in await self._sources(one, text):
                found[source.key] = source
        out: list[media.Part] = []
        for source in found.values():
            out += await self._parts(source)
        return tuple(out)

    async def _sources(self, one: Written, text: Text) -> list[_Source]:
        plan = one.plan
        kind = text(plan.type, f"{one.at}/type").strip().lower()
        kind = "pdf" if kind == "document" else kind
        if kind not in media.TOKENS and kind not in _SHARED:
            raise failed(f"unknown type `{kind}`")
        name, mime = text(plan.name, f"{one.at}/name"), text(plan.mime, f"{one.at}/mime")
        out = []
        for field, given in (("url", (plan.url,)), ("urls", plan.urls)):
            for index, template in enumerate(given):
                if template:
                    place = f"{one.at}/{field}" + (pointer(index) if field == "urls" else "")
                    url = text(template, place).strip()
                    own = name or unquote(PurePosixPath(urlsplit(url).path).name) or kind
                    made = _Source(kind, own, mime, plan.timeout, url=url, template=template)
                    out.append(made)
        for field, given in (("path", (plan.path,)), ("paths", plan.paths)):
            for index, template in enumerate(given):
                if template:
                    place = f"{one.at}/{field}" + (pointer(index) if field == "paths" else "")
                    path, is_written = text(template, place), "{{" not in template
                    for file in await self._files(plan, path, field == "paths", is_written):
                        own = name or file.name
                        out.append(_Source(kind, own, mime, path=file))
        return out

    async def _files(
        self, plan: AttachmentPlan, path: str, is_pattern: bool, is_written: bool
    ) -> list[Path]:
        return await asyncio.to_thread(
            files.find,
            self.root,
            plan.folder,
            path,
            is_pattern=is_pattern,
            is_written=is_written,
        )

    async def _parts(self, source: _Source) -> list[media.Part]:
        if source.path is not None:
            data = await asyncio.to_thread(files.read, source.path, self.limits.largest)
            return self._made(source, data, source.mime)
        inline = media.from_data_url(source.url)
        if inline is not None:
            if len(inline[1]) > self.limits.largest:
                raise failed(f"{source.name} has more than {self.limits.largest:,} bytes")
            return self._made(source, inline[1], inline[0])
        known = media.medium_of(source.mime) if source.kind in _SHARED else source.kind
        if not source.url.lower().startswith(("http://", "https://")):
            raise failed(f"`{source.url[:100]}` is no http address")
        # A provider has to be able to trust the server, too.
        if known == "image" and self.fetched_there and source.url.lower().startswith("https://"):
            return [media.at("image", source.name, source.url)]
        asked: Json = {"type": source.kind, "url": source.url, "name": source.name}
        if self.cassette is not None and self.cassette.replays:
            return list(self.cassette.answer("file", source.name, asked))
        if not self.is_real:
            return [media.at("image" if known == "image" else None, source.name, source.url)]
        if self.cassette is None:
            return await self._fetched(source)
        return await self.cassette.kept(
            "file",
            source.name,
            asked,
            partial(self._fetched, source),
            lambda made: media.kept([{"content": made}])[0]["content"],
        )

    async def _fetched(self, source: _Source) -> list[media.Part]:
        from compozy_prefect.runtime.downloads import download

        data, told = await download(
            source.url,
            self.limits,
            template=source.template,
            permissions=self.permissions,
            within=source.timeout,
        )
        return self._made(source, data, source.mime or told)

    def _made(self, source: _Source, data: bytes, told: str) -> list[media.Part]:
        """The file as the message holds it; text is a part of what is said."""
        name = source.path.name if source.path is not None else urlsplit(source.url).path
        mime = media.mime_of(data, name, told)
        medium = media.medium_of(mime)
        if source.kind in _SHARED:
            if medium is None and media.is_text(mime):
                if len(data) > self.limits.text:
                    raise failed(f"{source.name} has more than {self.limits.text:,} bytes of text")
                return [{"type": "text", "text": f"{source.name}:\n{media.text_of(data)}"}]
            if medium is None:
                raise failed(f"{source.name} is {mime}, which no model takes")
        elif medium is None or not self._fits(source.kind, mime):
            allowed = " or ".join(self.limits.types.get(source.kind, ()))
            raise failed(f"{source.name} is {mime}, and one of type `{source.kind}` is {allowed}")
        if not self._fits(medium, mime):
            raise failed(f"{source.name} is {mime}, which `attachments.allowed_mime_types` forbids")
        return [media.part(medium, mime, source.name, media.encoded(data))]

    def _fits(self, kind: str, mime: str) -> bool:
        return any(fnmatchcase(mime, one.lower()) for one in self.limits.types.get(kind, ()))
