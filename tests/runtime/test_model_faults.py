"""providers: what goes wrong on the wire, in the words of each provider, → what a user reads."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from compozy_prefect.errors import ModelFailed
from compozy_prefect.runtime.llm.faults import RETRYABLE
from compozy_prefect.runtime.llm.faults import refused as fault_in
from compozy_prefect.runtime.llm.wire import MEBI, Limits
from tests.support.asking import FORMATS, MODELS, Pauses, ask, refused
from tests.support.formats import FORMATS as WIRE_FORMATS
from tests.support.model_server import Broken, Entry, Fault, ModelServer, Reply, closed

STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
EACH = pytest.mark.parametrize("provider", FORMATS)
STATUSES = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    402: "QUOTA_EXCEEDED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    408: "TIMEOUT",
    413: "CONTEXT_LENGTH",
    418: "BAD_REQUEST",
    422: "BAD_REQUEST",
    429: "RATE_LIMIT",
    500: "INTERNAL_SERVER_ERROR",
    502: "BAD_GATEWAY",
    503: "SERVICE_UNAVAILABLE",
    504: "GATEWAY_TIMEOUT",
    520: "INTERNAL_SERVER_ERROR",
    529: "CAPACITY_ERROR",
}
KINDS = {
    "context": ("CONTEXT_LENGTH", "larger context window"),
    "key": ("UNAUTHORIZED", "Check "),
    "model": ("INVALID_MODEL", "Check the name of the model."),
    "quota": ("QUOTA_EXCEEDED", "billing"),
    "refused": ("CONTENT_POLICY", "Change the prompt"),
    "tool": ("INVALID_RESPONSE", "simplify the tools"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


async def failed(server: ModelServer, entry: Entry, streamed: bool, **options) -> ModelFailed:
    on_chunk = (lambda text: None) if streamed else None
    error = await refused(server, entry, on_chunk=on_chunk, **{"retry_attempts": 2, **options})
    provider = options["provider"]
    # Who, which model, which step, and what to do.
    who = f"step first/step: model {provider}/{MODELS[provider]} failed: "
    assert error.message.startswith(who)
    assert error.message.endswith(".")
    assert error.details["provider"] == provider
    assert "litellm" not in error.message.lower()
    assert (error.__cause__, error.__context__) == (None, None)
    reason = error.details["reason"]
    assert error.retryable == (reason in RETRYABLE or reason == "INVALID_RESPONSE")
    attempts = options.get("retry_attempts", 2) if reason in RETRYABLE else 1
    assert error.details["attempts"] == attempts
    return error


@EACH
@STREAMED
@pytest.mark.parametrize("status", STATUSES)
async def test_each_status_has_a_reason(server, provider, streamed, status):
    error = await failed(server, Fault(status), streamed, provider=provider)
    assert (error.details["reason"], error.details["status"]) == (STATUSES[status], status)
    assert len(server.requests) == error.details["attempts"], "and litellm asks by itself never"
    assert ("the script says no" in error.message) == (status not in (401, 403))


@EACH
@STREAMED
@pytest.mark.parametrize("kind", KINDS)
async def test_what_providers_say_in_their_own_words(server, provider, streamed, kind):
    if kind not in WIRE_FORMATS[provider].kinds:
        pytest.skip("this provider says it in its answer, or not at all")
    error = await failed(server, Fault(kind=kind), streamed, provider=provider)
    reason, advice = KINDS[kind]
    assert error.details["reason"] == reason
    assert advice in error.message
    assert error.code == (
        "INVALID_LLM_RESPONSE" if reason == "INVALID_RESPONSE" else "LLM_GENERATION_ERROR"
    )


@EACH
@STREAMED
async def test_it_waits_as_long_as_it_is_told(server, provider, streamed):
    on_chunk = (lambda text: None) if streamed else None
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    script = (Fault(429, retry_after=1.5), Fault(503, retry_after=when), Reply("ok"))
    pauses = Pauses()
    got = await ask(server, *script, provider=provider, pauses=pauses, on_chunk=on_chunk)
    assert got.text == "ok"
    assert pauses.seconds[0] == 1.5
    assert 20 < pauses.seconds[1] <= 30


@EACH
@STREAMED
@pytest.mark.parametrize(
    ("how", "reason", "words"),
    [
        ("drop", "CONNECTION_RESET", "the connection broke"),
        ("truncated", "CONNECTION_RESET", "broke while it answered"),
        ("invalid", "INVALID_RESPONSE", ""),
        ("html", "INVALID_RESPONSE", "Check that `api_url` is the address"),
        ("empty", "INVALID_RESPONSE", ""),
        ("redirect", "NOT_FOUND", "points to another address"),
    ],
)
async def test_a_broken_conversation(server, provider, streamed, how, reason, words):
    error = await failed(server, Broken(how), streamed, provider=provider)
    assert error.details["reason"] == reason
    assert error.details.get("status") == (307 if how == "redirect" else None)
    assert words in error.message
    assert len(server.requests) == error.details["attempts"]


@EACH
@pytest.mark.parametrize(
    ("how", "reason", "words"),
    [
        ("half", "CONNECTION_RESET", "broke while it answered"),
        ("short", "CONNECTION_RESET", "ended in the middle"),
        ("quiet", "TIMEOUT", "fell silent for 0.2 s"),
        ("error", "CAPACITY_ERROR", "it broke off, it is overloaded (the model is overloaded)"),
        ("garbled", "INVALID_RESPONSE", "a piece of its stream is no JSON"),
    ],
)
async def test_a_stream_that_does_not_come_to_its_end(server, provider, how, reason, words):
    error = await failed(server, Broken(how), True, provider=provider, limits=Limits(quiet=0.2))
    assert error.details["reason"] == reason
    assert words in error.message
    assert len(server.requests) == error.details["attempts"]


@EACH
@STREAMED
@pytest.mark.parametrize("entry", [Broken("hang"), Broken("drip", 0.02)], ids=["hang", "drip"])
async def test_an_answer_that_takes_too_long(server, provider, streamed, entry):
    await ask(server, Reply(), provider=provider)  # what the first call loads is loaded
    error = await failed(server, entry, streamed, provider=provider, timeout=0.5, retry_attempts=1)
    assert error.details["reason"] == "TIMEOUT"
    assert "did not answer in 0.5 s" in error.message
    assert "`timeout`" in error.message


@EACH
@STREAMED
async def test_nobody_there(server, provider, streamed):
    url = closed() + WIRE_FORMATS[provider].base
    error = await failed(server, Reply(), streamed, provider=provider, api_url=url)
    assert error.details["reason"] == "CONNECTION_REFUSED"
    assert "`api_url`" in error.message


@EACH
@STREAMED
@pytest.mark.parametrize(
    ("reply", "reason", "words"),
    [
        (Reply(""), "INVALID_RESPONSE", "its answer is empty"),
        (Reply("", finish="length"), "INVALID_RESPONSE", "Raise `max_tokens`"),
        (Reply("", finish="content_filter"), "CONTENT_POLICY", "it refused"),
    ],
    ids=["empty", "length", "refused"],
)
async def test_an_answer_without_words(server, provider, streamed, reply, reason, words):
    if provider == "ollama" and reason == "CONTENT_POLICY":
        pytest.skip("it has no word for that")
    error = await failed(server, reply, streamed, provider=provider)
    assert error.details["reason"] == reason
    assert words in error.message


@EACH
@pytest.mark.parametrize("how", ["large", "packed"])
async def test_an_answer_of_fifty_megabytes_is_not_read(server, provider, how):
    error = await failed(server, Broken(how), False, provider=provider)
    assert error.details["reason"] == "TOO_LARGE"
    assert "larger than 16 MiB" in error.message
    assert "`max_tokens`" in error.message
    assert len(server.requests) == 1
    assert server.sent < 12 * MEBI, "what fits into the buffers between"


@EACH
async def test_nor_is_a_stream_of_fifty_megabytes(server, provider):
    heard: list[str | None] = []
    error = await refused(
        server,
        Broken("large"),
        provider=provider,
        on_chunk=heard.append,
        limits=Limits(stream=MEBI // 10),
        timeout=60,
    )
    assert error.details["reason"] == "TOO_LARGE"
    assert heard[-1] is None
    assert 100 < len(heard) < 2000


def test_a_huge_answer_takes_no_memory(server):
    """In a process of its own: what a process has had at most does not go down."""
    server.answers(Broken("large"))
    code = textwrap.dedent(
        f"""
        import asyncio, resource
        from compozy_prefect.compiler.plan import ModelPlan
        from compozy_prefect.errors import ModelFailed
        from compozy_prefect.runtime.llm.client import ModelRequest
        from compozy_prefect.runtime.llm.providers import LiteLLMClient
        from compozy_prefect.runtime.llm import engine

        def most():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        async def main():
            await engine.litellm()
            model = ModelPlan("openai", "gpt-4o", api_url={server.url!r})
            messages = ({{"role": "user", "content": "hi"}},)
            before = most()
            for _ in range(3):
                try:
                    await LiteLLMClient().complete(
                        ModelRequest("a", "b", "s", model, "key-000000", messages, {{}})
                    )
                except ModelFailed as error:
                    print(error.details["reason"])
            print(most() - before)

        asyncio.run(main())
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    *reasons, more = done.stdout.split()
    assert (reasons, done.stderr) == (["TOO_LARGE"] * 3, "")
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(more) * unit < 40 * MEBI


@EACH
async def test_a_stream_that_is_left_frees_its_connection(server, provider):
    """Cancelled in the middle of an answer, as by the time-out of a step."""
    server.answers(Broken("quiet", 20))
    begun = asyncio.Event()
    task = asyncio.create_task(ask(server, provider=provider, on_chunk=lambda text: begun.set()))
    await asyncio.wait_for(begun.wait(), 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await ask(server, Reply("ok"), provider=provider)).text == "ok"


@pytest.mark.parametrize(
    ("status", "body", "reason", "said"),
    [
        (502, b"<html><title>502 Bad Gateway</title>", "BAD_GATEWAY", ""),
        (500, b"plain words", "INTERNAL_SERVER_ERROR", "plain words"),
        (500, b"\xff\xfe", "INTERNAL_SERVER_ERROR", "\ufffd\ufffd"),
        (500, b"[" * 100_000, "INTERNAL_SERVER_ERROR", "[" * 2000),
        (500, b"[]", "INTERNAL_SERVER_ERROR", "[]"),
        (500, b"null", "INTERNAL_SERVER_ERROR", "None"),
        (400, b'{"error": "no such model: x"}', "INVALID_MODEL", "no such model: x"),
        (400, b'[{"error": {"message": "bad", "code": 400}}]', "BAD_REQUEST", "bad"),
        (422, b'{"detail": [{"loc": ["x"], "msg": "wrong"}]}', "BAD_REQUEST", "wrong"),
        (400, b'{"object": "error", "message": "bad", "code": 40303}', "BAD_REQUEST", "bad"),
        (400, b'{"error": {"message": {"a": 1}}}', "BAD_REQUEST", '{"a": 1}'),
        (
            429,
            b'{"error": {"message": "Request too large for gpt-4o on tokens per min"}}',
            "CONTEXT_LENGTH",
            "Request too large for gpt-4o on tokens per min",
        ),
        (
            404,
            b'{"error": {"message": "Invalid URL (POST /v2/chat/completions)"}}',
            "NOT_FOUND",
            "Invalid URL (POST /v2/chat/completions)",
        ),
    ],
)
def test_refusals_in_all_shapes(status, body, reason, said):
    found = fault_in(status, {}, body)
    assert (found.reason, found.said, found.status) == (reason, said, status)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("1.5", 1.5), ("-3", 0.0), ("nan", None), ("inf", None), ("soon", None)],
)
def test_how_long_to_wait(header, seconds):
    assert fault_in(429, {"retry-after": header}, b"").retry_after == seconds


def test_google_says_in_the_body_how_long_to_wait():
    """And means the requests of this minute when it speaks of the quota."""
    body = {
        "code": 429,
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "22s"}],
    }
    found = fault_in(429, {}, json.dumps({"error": body}).encode())
    assert (found.reason, found.retry_after) == ("RATE_LIMIT", 22.0)
