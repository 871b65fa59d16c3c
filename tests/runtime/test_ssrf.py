"""Addresses and redirects that lead where a call must not go, against real servers on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from compozy_prefect.compiler.plan import RuntimePlan, ToolPlan
from compozy_prefect.errors import ToolFailed
from compozy_prefect.expressions import render_text
from compozy_prefect.runtime.tools.http import call
from compozy_prefect.runtime.tools.surroundings import Surroundings
from tests.support.internet import PUBLIC, Asked, Reply, Server, connect, out_of_bounds, serving

CASES = Path(__file__).parents[1] / "cases" / "http" / "ssrf.yaml"
ATTEMPTS: list[dict[str, Any]] = yaml.safe_load(CASES.read_text("utf-8"))
SECRET = "the-secret-that-must-not-get-out"


class Ground(NamedTuple):
    port: int
    reached: list[Any]
    public: Server


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """A server that nobody may reach, and one in public."""
    with out_of_bounds() as (port, reached), serving(lambda asked: (200, {}, b"")) as public:
        yield Ground(port, reached, public)


def named(attempt: dict[str, Any]) -> str:
    return " ".join(
        str(attempt[k]) for k in ("url", "base", "endpoint", "redirect") if k in attempt
    )


def test_there_are_enough_of_them() -> None:
    assert len(ATTEMPTS) >= 150
    assert len({str(one) for one in ATTEMPTS}) == len(ATTEMPTS)
    assert all(len({"needs", "says", "answers"} & one.keys()) == 1 for one in ATTEMPTS)


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=map(named, ATTEMPTS))
async def test_it_does_not_get_in(
    attempt: dict[str, Any], ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("PORT", str(ground.port))
        if isinstance(value, list):
            return [filled(one) for one in value]
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        return value

    one = filled(attempt)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{ground.port}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{ground.port}")
    names = {"public.test": [PUBLIC]} | one.get("resolves", {})
    internet = connect(monkeypatch, names, ground.public.port)
    written, base = address(one)
    tool = ToolPlan(
        "api",
        type="http",
        config={"base_url": written, "headers": {"Authorization": SECRET}, "retry": 0},
        timeout=5.0,
    )
    input = {key: one[key] for key in ("endpoint", "headers", "method") if key in one}
    around = Surroundings(RuntimePlan(permissions=tuple(one.get("permissions", ()))))
    ground.public.asked.clear()
    ground.public.reply = lambda asked: hop(one, asked)
    config = tool.config | {"base_url": base}
    if "answers" in one:
        await call(tool, {"endpoint": "", **input}, config, around)
        last = ground.public.asked[-1]
        assert f"{last.method} {last.path}" == one["answers"]
    else:
        with pytest.raises(ToolFailed) as raised:
            await call(tool, {"endpoint": "", **input}, config, around)
        fault = raised.value
        said = one.get("says") or f"it would need `--allow-net={one['needs']}`"
        assert said in fault.message
        assert SECRET not in f"{fault.message} {fault.details}"
        if "needs" in one:
            assert fault.details["permission"] == f"--allow-net={one['needs']}"
            assert not fault.retryable
    assert not ground.reached
    assert all(host == PUBLIC for host, _ in internet.connected)
    assert len(internet.looked_up) <= len(one.get("redirect", ())) + 1
    for asked in ground.public.asked:
        strange = asked.headers["host"] not in ("public.test", f"public.test:{ground.port}")
        assert not (strange and SECRET in str(asked.headers))


def address(one: dict[str, Any]) -> tuple[str, str]:
    """`base_url` as the file has it, and rendered."""
    if "url" in one:
        return "{{ .x }}", one["url"]
    if "base" in one:
        return one["base"], render_text(one["base"], {"x": one["x"]})
    if "endpoint" in one:
        return "http://public.test/v1", "http://public.test/v1"
    return "{{ .x }}", "http://public.test/0"


def hop(one: dict[str, Any], asked: Asked) -> Reply:
    number = asked.path.removeprefix("/")
    hops = one.get("redirect", [])
    if number.isdecimal() and int(number) < len(hops):
        return one.get("status", 302), {"Location": hops[int(number)]}, b""
    return 200, {}, b"{}"


async def test_a_name_that_answers_otherwise_the_next_time(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the connection goes to the address that was looked at, and no other."""
    ground.public.reply = lambda asked: (200, {"Connection": "close"}, b"1")
    names = {"rebind.test": [[PUBLIC], ["127.0.0.1"]]}
    internet = connect(monkeypatch, names, ground.public.port)
    tool = ToolPlan("api", type="http", config={"base_url": "{{ .x }}"})
    config = {"base_url": f"http://rebind.test:{ground.port}/", "retry": 0}
    assert (await call(tool, {"endpoint": ""}, config, Surroundings()))["status_code"] == 200
    assert internet.looked_up == ["rebind.test"]
    assert internet.connected == [(PUBLIC, ground.port)]
    with pytest.raises(ToolFailed, match=r"rebind.test leads to 127.0.0.1, which is loopback"):
        await call(tool, {"endpoint": ""}, config, Surroundings())
    assert not ground.reached


async def test_a_connection_of_another_tool_is_not_used(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that one tool spells out stays out of reach for the others."""
    ground.public.reply = lambda asked: (200, {}, b"1")
    connect(monkeypatch, {"inside.test": ["127.0.0.1"]}, ground.public.port)
    url = f"http://inside.test:{ground.public.port}/"
    open_ = ToolPlan("a", type="http", config={"base_url": url})
    closed = ToolPlan("b", type="http", config={"base_url": "{{ .x }}"})
    await call(open_, {"endpoint": ""}, {"base_url": url}, Surroundings())
    with pytest.raises(ToolFailed, match="is loopback"):
        await call(closed, {"endpoint": ""}, {"base_url": url}, Surroundings())
    granted = Surroundings(RuntimePlan(permissions=("--allow-net=inside.test",)))
    assert await call(closed, {"endpoint": ""}, {"base_url": url}, granted)
