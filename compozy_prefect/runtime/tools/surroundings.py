"""What a tool is called in, beside its input: the project, the variables, the place, the key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compozy_prefect.compiler.plan import Position, RuntimePlan


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a tool runs in: its project's folder, and variables.

    `outside` is the environment of the project, of which a tool sees what it was granted by name,
    `declared` are the variables that the files give it. `place` is where the tool stands in the
    YAML, or its code; `printed` hears what it prints. `key` names the call, also when it is made
    again. `is_repeated`: the file says how often who calls makes a failed call again.
    `is_offline`: there is to be no network.
    """

    runtime: RuntimePlan = field(default_factory=RuntimePlan)
    root: Path = Path()
    outside: Mapping[str, str] = field(default_factory=dict, repr=False)
    declared: Mapping[str, str] = field(default_factory=dict, repr=False)
    place: Position | None = None
    printed: Callable[[str], None] = lambda text: None
    key: str = ""
    is_repeated: bool = False
    is_offline: bool = False
