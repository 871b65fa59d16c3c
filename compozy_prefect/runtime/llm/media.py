"""Files as parts of a message: how a provider is sent them, what stands for them, their size.

A part is in the form of OpenAI's chat completions, from which litellm makes that of each provider.
Where a message is kept and not sent, a digest stands for the bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import mimetypes
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from compozy_prefect.compiler.plan import Json, ModelPlan

Medium = Literal["image", "pdf", "audio", "video"]
Part = dict[str, Any]

# Whose servers fetch an image themselves. litellm would fetch it here for the others, from any
# address and of any size.
_FETCH = frozenset({"openai", "anthropic", "groq", "xai", "openrouter", "custom"})
# About what they take of a prompt; a tile of an image and a second of sound differ by provider.
TOKENS: Mapping[Medium, int] = {"image": 1_000, "pdf": 2_000, "audio": 2_000, "video": 10_000}

_MAGIC = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.S), "image/webp"),
    (re.compile(rb"BM.{4}\0\0\0\0", re.S), "image/bmp"),
    (re.compile(rb"%PDF-"), "application/pdf"),
    (re.compile(rb"RIFF....WAVE", re.S), "audio/wav"),
    (re.compile(rb"ID3|\xff[\xfb\xf3\xf2]"), "audio/mpeg"),
    (re.compile(rb"fLaC"), "audio/flac"),
    (re.compile(rb"OggS"), "audio/ogg"),
    (re.compile(rb"....ftypM4A", re.S), "audio/mp4"),
    (re.compile(rb"....ftyp", re.S), "video/mp4"),
    (re.compile(rb"\x1aE\xdf\xa3"), "video/webm"),
    (re.compile(rb"PK\x03\x04|PK\x05\x06"), "application/zip"),
)
_PLAIN = frozenset(
    {"application/json", "application/xml", "application/yaml", "application/x-yaml"}
    | {"application/javascript", "application/toml", "application/sql"}
)
_SOUNDS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav", "mp4": "m4a"}
_DATA = re.compile(r"data:(?P<mime>[^;,]*);base64,", re.I)


def fetches(models: Iterable[ModelPlan]) -> bool:
    """Whether whoever answers takes the address of an image, and fetches it."""
    return all(model.provider in _FETCH for model in models)


def mime_of(data: bytes, name: str, told: str = "") -> str:
    """What the bytes are: by how they begin, or else as `told`, or as the name ends."""
    for magic, mime in _MAGIC:
        if magic.match(data):
            return mime
    told = told.partition(";")[0].strip().lower()
    if told and told != "application/octet-stream":
        return told
    guessed, packed = mimetypes.guess_type(name)
    if guessed and not packed:
        return guessed
    return "text/plain" if _text_of(data) is not None else "application/octet-stream"


def medium_of(mime: str) -> Medium | None:
    """Of a type of file; None of one that is no medium."""
    first = mime.partition("/")[0]
    if mime == "application/pdf":
        return "pdf"
    return first if first in ("image", "audio", "video") else None  # type: ignore[return-value]


def is_text(mime: str) -> bool:
    return mime.startswith("text/") or mime in _PLAIN or mime.endswith(("+json", "+xml"))


def text_of(data: bytes) -> str:
    return data.decode("utf-8-sig", "replace")


def from_data_url(url: str) -> tuple[str, bytes] | None:
    """The type and the bytes of a `data:` address; None of another one, or a broken one."""
    found = _DATA.match(url)
    if found is None:
        return None
    try:
        return found["mime"].lower(), base64.b64decode(url[found.end() :], validate=True)
    except (binascii.Error, ValueError):
        return None


def encoded(data: bytes) -> str:
    return "base64," + base64.b64encode(data).decode()


def digest(data: bytes) -> str:
    return "sha256," + hashlib.sha256(data).hexdigest()


def part(medium: Medium, mime: str, name: str, content: str) -> Part:
    """A file, of which `content` is what `encoded` or `digest` gives."""
    source = f"data:{mime};{content}"
    if medium == "image":
        return {"type": "image_url", "image_url": {"url": source}}
    if medium == "audio":
        kind = mime.partition("/")[2]
        data = content.removeprefix("base64,")
        return {"type": "input_audio", "input_audio": {"data": data, "format": _sound(kind)}}
    return {"type": "file", "file": {"filename": name, "file_data": source}}


def at(medium: Medium | None, name: str, url: str) -> Part:
    """A file that whoever gets the message fetches."""
    if medium == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": name, "file_id": url}}


def media(messages: Iterable[Mapping[str, Any]]) -> set[Medium]:
    """Those that are in the messages."""
    return {found for one in parts(messages) if (found := medium(one)) is not None}


def parts(messages: Iterable[Mapping[str, Any]]) -> list[Part]:
    return [part for one in messages for part in _content(one)]


def medium(part: Part) -> Medium | None:
    match part.get("type"):
        case "image_url":
            return "image"
        case "input_audio":
            return "audio"
        case "file":
            data = str((part.get("file") or {}).get("file_data") or "")
            return "video" if data.startswith("data:video/") else "pdf"
    return None


def tokens(part: Part) -> int:
    """About how many a part takes that is no text."""
    found = medium(part)
    return 0 if found is None else TOKENS[found]


def kept(messages: Iterable[dict[str, Any]]) -> list[Json]:
    """The messages with a digest instead of the bytes of each file."""
    out: list[Json] = []
    for message in messages:
        if _content(message):
            message = {**message, "content": [_kept(one) for one in message["content"]]}
        out.append(message)
    return out


def _content(message: Mapping[str, Any]) -> list[Part]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _kept(part: Part) -> Part:
    match part.get("type"):
        case "image_url":
            return {**part, "image_url": _short(part["image_url"], "url")}
        case "file":
            return {**part, "file": _short(part["file"], "file_data")}
        case "input_audio":
            sound = part["input_audio"]
            if str(sound["data"]).startswith("sha256,"):
                return part
            short = digest(base64.b64decode(sound["data"]))
            return {**part, "input_audio": {**sound, "data": short}}
    return part


def _short(holder: Any, name: str) -> Any:
    found = from_data_url(holder.get(name) or "") if isinstance(holder, dict) else None
    if found is None:
        return holder
    mime, data = found
    return {**holder, name: f"data:{mime};{digest(data)}"}


def _sound(kind: str) -> str:
    return _SOUNDS.get(kind, kind)


def _text_of(data: bytes) -> str | None:
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
