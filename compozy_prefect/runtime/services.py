"""What a run needs from outside: models, mocks, the environment and the clock.

Everything here can be faked without a network (design.md, no. 11), and nothing else may be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from compozy_prefect.compiler.plan import Json, MemoryPlan, StepPlan, WorkflowPlan
from compozy_prefect.errors import RunError
from compozy_prefect.runtime.cassette import Cassette, TapedClient
from compozy_prefect.runtime.llm.client import ModelClient
from compozy_prefect.runtime.memory.store import IN_PROCESS, Store
from compozy_prefect.runtime.mocks import MockedClient, Mocks

if TYPE_CHECKING:
    from compozy_prefect.runtime.llm.limits import Shared


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Services:
    """The outside world of one run, or of many.

    `env` is the process environment under the `.env` file (language.md §1.4); `client` answers
    agents, mocked ones included; `in_memory` has the conversations that end with the process;
    `now` is read once an attempt of a step. `root` is the project's folder, with the code of tools
    and the files that are attached to prompts.
    """

    client: ModelClient
    mocks: Mocks | None = None
    offline: bool = False
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    now: Callable[[], datetime] = _now
    cassette: Cassette | None = None
    in_memory: Store = IN_PROCESS
    root: Path = field(default_factory=Path.cwd)

    @classmethod
    def create(
        cls,
        *,
        offline: bool = False,
        mocks: Mocks | None = None,
        env: Mapping[str, str] | None = None,
        client: ModelClient | None = None,
        cassette: Cassette | None = None,
        shared: Shared | None = None,
        root: Path | None = None,
    ) -> Services:
        """Services with the usual parts; `root` is the current folder unless given.

        A `cassette` answers instead of models and tools, or hears what they answer. `shared` holds
        the limits of models that other processes keep to as well.

        `env` is the process environment unless given. `client` replaces the provider (or, with
        `offline`, the offline model); mocks stand before it.
        """
        replays = cassette is not None and cassette.replays
        if client is None and not replays:
            client = _client(offline, shared)
        if cassette is not None:
            client = TapedClient(cassette, client)
        assert client is not None
        if mocks is not None:
            client = MockedClient(mocks, client)
        environ = dict(os.environ if env is None else env)
        root = (root or Path.cwd()).absolute()
        if cassette is None:
            return cls(client, mocks, offline, environ, root=root)
        return cls(
            client, mocks, offline, environ, lambda: cassette.now, cassette=cassette, root=root
        )

    def to_json(self) -> dict[str, Json] | None:
        """What `from_json` makes the same services from in another process, with the environment.

        None for those with a client, a cassette or a clock of their own, which live here.
        """
        client = self.client.fallback if isinstance(self.client, MockedClient) else self.client
        if self.cassette is not None or self.now is not _now:
            return None
        if type(client) is not type(_client(self.offline, None)):
            return None
        mocks = None if self.mocks is None else self.mocks.data
        return {
            "offline": self.offline,
            "mocks": mocks,
            "env": dict(self.env),
            "root": os.fspath(self.root),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Json], shared: Shared | None = None) -> Services:
        mocks = None if data["mocks"] is None else Mocks.from_mapping(data["mocks"])
        return cls.create(
            offline=data["offline"],
            mocks=mocks,
            env=data["env"],
            shared=shared,
            root=Path(data["root"]),
        )

    @classmethod
    def from_environment(
        cls, env_dir: Path | None = None, shared: Shared | None = None
    ) -> Services:
        """Services of a deployed run, which a worker started and no command line configured.

        `env_dir` is the directory of the deployed flows, with the files of the project.
        `COMPOZY_OFFLINE=1` answers agents offline, `COMPOZY_MOCKS` names a mocks file; the `.env`
        in `env_dir` lies over the process environment. Raises UsageError for a bad mocks file.
        """
        env = dict(os.environ)
        if env_dir is not None:
            env |= _dotenv(env_dir / ".env")
        path = env.get("COMPOZY_MOCKS", "").strip()
        return cls.create(
            offline=env.get("COMPOZY_OFFLINE", "").strip().lower() in ("1", "true", "yes"),
            mocks=Mocks.from_file(path) if path else None,
            env=env,
            shared=shared,
            root=env_dir,
        )

    def store(self, memory: MemoryPlan) -> Store:
        """Where the conversations of a memory are kept. Raises RunError when that is not here."""
        if memory.store != "in_memory":
            raise RunError(
                f"this version has no store `{memory.store}` for memory `{memory.id}`; "
                "it has `persistence: {type: in_memory}`, which ends with the process",
                code="UNSUPPORTED",
                retryable=False,
            )
        return self.in_memory

    def asks_a_provider(self, agent: str, action: str) -> bool:
        """Whether this action of an agent would be answered by a provider, which needs a key."""
        mocked = self.mocks is not None and self.mocks.has_agent(agent, action)
        replayed = self.cassette is not None and self.cassette.replays
        return not self.offline and not mocked and not replayed


def asks_a_provider(workflow: WorkflowPlan, step: StepPlan, mocks: Mocks | None) -> bool:
    """Whether a step would be answered by a provider, unless it runs offline."""
    if step.agent is None:
        return False
    agent = workflow.agents[step.agent.agent]
    mocked = mocks is not None and mocks.has_agent(agent.id, step.agent.action)
    return not mocked and agent.model.provider != "mock"


def warm(workflow: WorkflowPlan, *, offline: bool, mocks: Mocks | None) -> None:
    """Begins to import what asks providers, three seconds, and MCP servers, where a step may."""
    steps = workflow.all_steps.values()
    called = (workflow.agents[key].model for key in workflow.callable_agents.values())
    asks = any(asks_a_provider(workflow, step, mocks) for step in steps)
    if not offline and (asks or any(model.provider != "mock" for model in called)):
        from compozy_prefect.runtime.llm import engine

        engine.warm()
    if not offline and workflow.mcps:
        from compozy_prefect.runtime.mcp import sessions

        sessions.warm()


def _client(offline: bool, shared: Shared | None) -> ModelClient:
    # Imported late: LiteLLM takes seconds, and a run with neither agents nor a network none.
    if offline:
        from compozy_prefect.runtime.llm.offline import OfflineClient

        return OfflineClient()
    from compozy_prefect.runtime.llm.failover import Failover
    from compozy_prefect.runtime.llm.limits import Limited
    from compozy_prefect.runtime.llm.providers import LiteLLMClient

    return Failover(Limited(LiteLLMClient(), shared))


def _dotenv(path: Path) -> dict[str, str]:
    from compozy_prefect.diagnostics import SourceText
    from compozy_prefect.language.dotenv import read_env

    if not path.is_file():
        return {}
    return read_env(SourceText(path.name, path.read_text("utf-8", "replace")))[0]
