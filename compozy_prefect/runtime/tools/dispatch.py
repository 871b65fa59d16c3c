"""A tool and its input → the tool's result, validated on both sides (language.md §6.1).

Those of `kinds.KINDS` and of `compiler.builtins` run; the others answer through a mocks file only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from compozy_prefect.compiler.builtins import INNER
from compozy_prefect.compiler.plan import Json, ToolPlan
from compozy_prefect.errors import InputInvalid, OutputInvalid, ToolFailed
from compozy_prefect.runtime import schemas
from compozy_prefect.runtime.cassette import Cassette
from compozy_prefect.runtime.js import call as javascript
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.tools import effects
from compozy_prefect.runtime.tools.kinds import KINDS
from compozy_prefect.runtime.tools.surroundings import Surroundings

_BARE = Surroundings()
_CODE = frozenset({*javascript.TYPES, "python"})  # functions, whose second argument is the config


async def call(
    tool: ToolPlan,
    input: dict[str, Any],
    around: Surroundings = _BARE,
    *,
    config: Callable[[], dict[str, Any]] | None = None,
    builtin: Callable[[dict[str, Any]], Awaitable[Json]] | None = None,
    mocks: Mocks | None = None,
    offline: bool = False,
    cassette: Cassette | None = None,
    once: Callable[[effects.Run], Awaitable[Json]] | None = None,
) -> Json:
    """The tool's result as an object.

    `input` is the rendered `with` of the step and is laid over the tool's own `with`. `config`
    renders the tool's, when it is needed, and `builtin` runs a built-in one. A `cassette` answers,
    or hears the answer. `once` makes a call that has an effect. Raises InputInvalid and
    OutputInvalid with the violations in the details, and ToolFailed: what the mocks say, a time-out
    (`TOOL_TIMEOUT`), or no way to run the tool (`TOOL_NOT_FOUND`).
    """
    given = filled(tool, input)
    wrong = schemas.violations(given, tool.input_schema)
    if wrong:
        raise InputInvalid(
            f"the input of tool `{tool.id}` breaks its schema: {_all(wrong)}",
            details={"tool": tool.id, "violations": wrong},
        )
    mocked = mocks.for_tool(tool.id, given) if mocks is not None else None
    if mocked is not None:
        raw = await mocked.given(f"tool `{tool.id}`", tool.timeout, {"tool": tool.id})
    elif cassette is not None and cassette.replays and not _is_inner(tool):
        raw = cassette.answer("tool", tool.id, given)
    elif _may_run(tool, around, offline):
        rendered = config() if config is not None else tool.config
        around = replace(around, is_offline=offline)
        if tool.effect == effects.IDEMPOTENT and tool.type in _CODE:
            rendered = {**rendered, "idempotency_key": around.key}
        run = partial(KINDS[tool.type].call, tool, given, rendered, around)
        if once is not None:
            run = partial(once, run)
        raw = await (run() if cassette is None else cassette.kept("tool", tool.id, given, run))
    elif _is_inner(tool) and builtin is not None:
        raw = await builtin(given)
    else:
        raise _absent(tool, offline)
    result = as_object(raw)
    wrong = _broken(raw, result, tool.output_schema)
    if wrong:
        raise OutputInvalid(
            f"the result of tool `{tool.id}` breaks its output schema: {_all(wrong)}",
            details={"tool": tool.id, "violations": wrong},
        )
    return result


def method_call(tool: ToolPlan, method: str, args: list[Json]) -> tuple[ToolPlan, dict[str, Json]]:
    """The tool and the input of `.tools.<id>.<method>(args…)` (language.md §6.2).

    A tool with the property `action` gets the method there, also one that its `enum` does not
    list, and the arguments under its other properties in their order.
    """
    schema = tool.input_schema if isinstance(tool.input_schema, dict) else {}
    properties = schema.get("properties")
    if not isinstance(properties, dict) or "action" not in properties:
        if len(args) == 1 and isinstance(args[0], dict):
            return tool, args[0]
        raise ToolFailed(
            f"tool `{tool.id}` takes one map in a template, since it has no `action`",
            details={"tool": tool.id},
            retryable=False,
        )
    names = [name for name in properties if name != "action"]
    if len(args) > len(names):
        raise ToolFailed(
            f"`{method}` of tool `{tool.id}` takes {len(names)} arguments: {', '.join(names)}",
            details={"tool": tool.id},
            retryable=False,
        )
    action = properties["action"]
    if isinstance(action, dict):
        action = {key: value for key, value in action.items() if key != "enum"}
    widened = {**schema, "properties": {**properties, "action": action}}
    return replace(tool, input_schema=widened), {
        "action": method,
        **dict(zip(names, args, strict=False)),
    }


def filled(tool: ToolPlan, input: dict[str, Any]) -> dict[str, Any]:
    """The input with what the tool and its schema fill in."""
    given: dict[str, Any] = schemas.with_defaults(merged(tool.with_, input), tool.input_schema)
    return given


def as_object(result: Json) -> Json:
    """The result rules: an object as it is, null as `{}`, anything else as `{value: …}`."""
    if isinstance(result, dict):
        return result
    return {} if result is None else {"value": result}


def merged(under: Json, over: Json) -> Json:
    """`over` laid over `under`: maps merge key by key, everything else is replaced."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    out = dict(under)
    for key, item in over.items():
        out[key] = merged(out[key], item) if key in out else item
    return out


def _is_inner(tool: ToolPlan) -> bool:
    """Whether the run itself answers it, through `builtin`."""
    return tool.type == "builtin" and tool.id in INNER


def _may_run(tool: ToolPlan, around: Surroundings, offline: bool) -> bool:
    """Whether this version runs the tool. Offline too, what was granted no network."""
    kind = KINDS.get(tool.type)
    return kind is not None and not (offline and kind.networked(around))


def _broken(raw: Json, result: Json, schema: Json) -> list[str]:
    """A schema may describe what the tool gives or the object that is made of it."""
    wrong = schemas.violations(result, schema)
    if not wrong or raw is result:
        return wrong
    about_raw = schemas.violations(raw, schema)
    if not about_raw:
        return []
    of = schema.get("type") if isinstance(schema, dict) else None
    return wrong if of in (None, "object") else about_raw


def _absent(tool: ToolPlan, offline: bool) -> ToolFailed:
    kind = f"tool `{tool.id}` (type {tool.type})"
    mock = f"add `tools: {{{tool.id}: {{output: …}}}}` to a file and give it with --mocks FILE"
    if tool.type in KINDS:
        why = "it needs the network, and the mocks do not name it"
        message = f"{kind} is refused with --offline: {why}; {mock}"
    else:
        runs = ", ".join(sorted(KINDS.keys() - {"mcp"}))
        message = (
            f"{kind} cannot run: this version runs {runs}, and others through mocks only; {mock}"
        )
    return ToolFailed(
        message,
        code="TOOL_NOT_FOUND",
        details={"tool": tool.id, "offline": offline},
        retryable=False,
    )


def _all(wrong: list[str]) -> str:
    return "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
