"""A canary key goes into the Authorization header, and nowhere else (reliability.md S12)."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap
import traceback
from dataclasses import replace

import pytest

from compozy_prefect.compiler.plan import ModelPlan
from compozy_prefect.errors import RunError
from compozy_prefect.runtime.agents import AgentRequest, answer
from compozy_prefect.runtime.llm.client import ModelRequest
from compozy_prefect.runtime.llm.providers import LiteLLMClient
from tests.support.asking import FORMATS, MODELS
from tests.support.model_server import Broken, Fault, Reply

CANARY = "canary-7f3a9c51d2e84b60"  # not in the form of any provider, so that only we can know it
QUOTING = f"the key {CANARY} is refused, Bearer {CANARY}, {json.dumps({'api_key': CANARY})}"


async def _at_once(_: float) -> None:
    return None


@pytest.mark.parametrize(
    "entry",
    [
        Fault(401, QUOTING),
        Fault(403, QUOTING),
        Fault(400, QUOTING),
        Fault(404, QUOTING),
        Fault(429, QUOTING),
        Fault(500, QUOTING),
        Broken("invalid"),
        Broken("drop"),
        Broken("hang"),
        Broken("error"),
        Reply("not what was asked for"),
    ],
    ids=lambda entry: (
        f"{type(entry).__name__}-{getattr(entry, 'status', getattr(entry, 'how', ''))}"
    ),
)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("provider", FORMATS)
async def test_no_error_holds_the_key(model_server, caplog, capfd, provider, streamed, entry):
    caplog.set_level(logging.DEBUG)
    model_server.answers(entry)
    request = AgentRequest(
        agent="a",
        action="b",
        step="s",
        model=ModelPlan(
            provider,
            MODELS[provider],
            api_key=CANARY,
            api_url=model_server.base(provider),
            timeout=0.7 if entry == Broken("hang") else 20,
        ),
        api_key=CANARY,
        instructions="sys",
        prompt="hi",
        schema={"type": "object", "required": ["a"]},
    )
    heard: list[str | None] = []
    client = LiteLLMClient(sleep=_at_once)
    with pytest.raises(RunError) as raised:
        await answer(request, Listened(client, heard) if streamed else client)
    error = raised.value
    written = [
        str(error),
        repr(error),
        json.dumps(error.details),
        "".join(traceback.format_exception(error)),
        repr(request),
        caplog.text,
        *(repr(vars(record)) for record in caplog.records),
        *capfd.readouterr(),
        *(seen.text for seen in model_server.requests),
    ]
    for text in written:
        assert CANARY not in text
    assert error.__cause__ is None
    assert error.__context__ is None
    # Google's protocol has a header of its own for the key, and so has Anthropic's.
    for seen in model_server.requests:
        holding = {name for name, value in seen.headers.items() if CANARY in value}
        assert holding <= {"authorization", "x-api-key", "x-goog-api-key"}
        assert CANARY not in seen.path
    assert model_server.requests or entry == Broken("hang")


class Listened:
    """A client whose every answer is streamed."""

    def __init__(self, client: LiteLLMClient, heard: list[str | None]) -> None:
        self.client, self.heard = client, heard

    async def complete(self, request, *, on_chunk=None):
        return await self.client.complete(request, on_chunk=self.heard.append)


def test_a_request_does_not_show_its_key():
    request = ModelRequest(
        agent="a",
        action="b",
        step="s",
        model=ModelPlan("openai", "m", api_key=CANARY),
        api_key=CANARY,
        messages=(),
        input={},
    )
    assert CANARY not in repr(request)
    assert CANARY not in repr(replace(request, agent="c"))


def test_a_process_says_nothing_on_its_own(tmp_path):
    """Nothing on stderr, no `.env` read, and the key of the process is not sent."""
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-from-the-env-file-0000\nFROM_ENV_FILE=1\n")
    code = textwrap.dedent(
        """
        import asyncio, os
        from compozy_prefect.compiler.plan import ModelPlan
        from compozy_prefect.runtime.llm.client import ModelRequest
        from compozy_prefect.runtime.llm.providers import LiteLLMClient
        from tests.support.model_server import Fault, ModelServer, Reply

        async def main():
            with ModelServer([Reply("ok"), Fault(500)]) as server:
                model = ModelPlan("openai", "gpt-4o", api_url=server.url)
                messages = ({"role": "user", "content": "hi"},)
                key = "sk-given-000000000000"
                for _ in range(2):
                    request = ModelRequest("a", "b", "s", model, key, messages, {})
                    try:
                        print((await LiteLLMClient().complete(request)).text)
                    except Exception as error:
                        print(error.code)
                print({seen.authorization for seen in server.requests})
            print(os.environ.get("FROM_ENV_FILE"))

        asyncio.run(main())
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    assert done.stdout.split("\n") == [
        "ok",
        "LLM_GENERATION_ERROR",
        "{'Bearer sk-given-000000000000'}",
        "None",
        "",
    ]
