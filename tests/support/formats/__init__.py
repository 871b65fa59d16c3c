"""The wire formats of providers, as their own documentation shows them."""

from __future__ import annotations

from tests.support.formats.anthropic import Anthropic
from tests.support.formats.base import Format
from tests.support.formats.google import Google
from tests.support.formats.ollama import Ollama
from tests.support.formats.openai import Groq, OpenAI
from tests.support.formats.responses import Responses

FORMATS: dict[str, Format] = {
    "openai": OpenAI(),
    "groq": Groq(),
    "anthropic": Anthropic(),
    "google": Google(),
    "ollama": Ollama(),
    "responses": Responses(),
}
_ENDS = (
    ("/openai/v1/chat/completions", "groq"),
    ("/chat/completions", "openai"),
    ("/v1/responses", "responses"),
    ("/v1/messages", "anthropic"),
    (":generateContent", "google"),
    (":streamGenerateContent", "google"),
    ("/api/chat", "ollama"),
)


def format_of(path: str) -> Format | None:
    """The format that is spoken at a path; None where nothing is."""
    path = path.partition("?")[0]
    return next((FORMATS[name] for end, name in _ENDS if path.endswith(end)), None)
