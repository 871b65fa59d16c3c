"""`compozy config`: the settings of a project, what is wrong with them, and where they come from.

Secrets are never printed, be it a password in an address (service.md §5.4).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from compozy_prefect.cli import DONE, FAILED
from compozy_prefect.cli.app import SETTINGS
from compozy_prefect.cli.output import json_text, note, print_diagnostics

if TYPE_CHECKING:
    from compozy_prefect.diagnostics import Diagnostic, SourceText
    from compozy_prefect.language.config import Setting
    from compozy_prefect.language.load import Loaded

_Path = Annotated[Path, Parameter(allow_leading_hyphen=False)]


def show(
    path: _Path = Path("."),
    /,
    *,
    format: Annotated[Literal["table", "json", "yaml"], Parameter(alias="-f")] = "table",
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    sources: Annotated[bool, Parameter(alias="-s", negative="")] = False,
) -> int:
    """Print all settings of a project with their values; secrets are left out.

    Parameters
    ----------
    path
        A project directory or a YAML file.
    format
        A table, or data with the values under `config` and where they come from under `sources`.
    as_json
        The same as `--format json`.
    sources
        Where each value comes from, as a column of the table.
    """
    from compozy_prefect.diagnostics import printable
    from compozy_prefect.language.registry import all_keys

    loaded = _load(path)
    settings = [loaded.config.setting(key) for key in all_keys()]
    if as_json or format != "table":
        data = {
            "config": _nested(settings),
            "sources": {setting.key: str(setting.origin) for setting in settings},
        }
        sys.stdout.write(_yaml(data) if format == "yaml" and not as_json else json_text(data))
    else:
        rows = [(s.key, _written(s), *([str(s.origin)] if sources else [])) for s in settings]
        head = ("KEY", "VALUE", *(["SOURCE"] if sources else []))
        print("\n".join(printable(line) for line in _table([head, *rows])))
    return FAILED if _say(loaded) else DONE


def validate(path: _Path = Path("."), /) -> int:
    """Say what is wrong with the settings of a project, wherever they come from.

    Parameters
    ----------
    path
        A project directory or a YAML file.
    """
    if _say(_load(path)):
        return FAILED
    note("✅ Configuration is valid")
    return DONE


def diagnostics(
    path: _Path = Path("."),
    /,
    *,
    verbose: Annotated[bool, Parameter(alias="-v", negative="")] = False,
) -> int:
    """Say where settings come from: the files, the order of sources, what is set and what it does.

    Parameters
    ----------
    path
        A project directory or a YAML file.
    verbose
        All settings with their variables and flags, also those that nobody sets.
    """
    from compozy_prefect.diagnostics import printable
    from compozy_prefect.errors import UsageError

    print(f"Working directory: {printable(os.getcwd())}")
    try:
        loaded = _load(path)
    except UsageError as fault:
        print(f"Project file: {printable(str(fault))}")
        return DONE
    for line in _report(loaded, verbose):
        print(printable(line))
    _say(loaded)
    return DONE


def _report(loaded: Loaded, verbose: bool) -> Iterator[str]:
    from compozy_prefect.language.config import PRECEDENCE
    from compozy_prefect.language.registry import all_keys

    known = all_keys()
    settings = [loaded.config.setting(key) for key in known]
    found = _found(loaded)
    env_file = SETTINGS.env_file or loaded.root / ".env"
    errors = sum(one.severity == "error" for one in found)
    yield f"Project file: {loaded.root / (loaded.file or '?')}"
    count = f"variables: {len(loaded.env)}" if env_file.is_file() else "not there"
    yield f"Environment file: {env_file} ({count})"
    yield f"Loaded: {'yes' if loaded.project is not None else 'no, the file is no YAML map'}"
    yield f"Valid: {'yes' if not errors else f'no, errors: {errors}'}"
    order = " > ".join((*loaded.config.order, "default"))
    yield f"Precedence: {order} ({PRECEDENCE}=seed|env-first)"
    given = [setting for setting in settings if setting.origin.where != "default"]
    yield ""
    yield "Set" if given else "Nothing is set: all settings have their default."
    yield from (f"  {line}" for line in _table([_given(setting) for setting in given]))
    if verbose:
        yield ""
        yield "All settings"
        yield from (f"  {line}" for line in _table([_declared(key) for key in known]))


def _given(setting: Setting) -> tuple[str, ...]:
    """Key, value, source, and what the setting does, or why it does nothing."""
    from compozy_prefect.language.config import EFFECTS
    from compozy_prefect.language.registry import has_effect, why_inert

    effect = EFFECTS.get(setting.key)
    if effect is not None:
        does = effect.does
    else:
        does = (
            "in the plan" if has_effect(setting.key) else f"does nothing: {why_inert(setting.key)}"
        )
    if setting.hidden:
        does += f"; hides {', '.join(str(origin) for origin in setting.hidden)}"
    return setting.key, _written(setting), str(setting.origin), does


def _declared(key: str) -> tuple[str, ...]:
    from compozy_prefect.language.config import EFFECTS
    from compozy_prefect.language.registry import has_effect, variables

    flag = EFFECTS[key].flag if key in EFFECTS else ""
    return key, ", ".join(variables(key)), flag, "" if has_effect(key) else "does nothing here"


def _load(path: Path) -> Loaded:
    from compozy_prefect.language.config import Outside
    from compozy_prefect.language.load import load

    return load(path, env_file=SETTINGS.env_file, outside=Outside.here(SETTINGS.flags))


def _found(loaded: Loaded) -> list[Diagnostic]:
    """What is wrong with the settings; of the rest of a project, nothing."""
    from compozy_prefect.compiler.checks.project import Project
    from compozy_prefect.compiler.checks.settings import places, settings
    from compozy_prefect.diagnostics import in_file_order
    from compozy_prefect.language.registry import all_keys

    listed = (*loaded.diagnostics, *loaded.config.faults(all_keys()))
    if loaded.project is None:
        return in_file_order(one for one in listed if one.severity == "error" or one.span is None)
    within = places(loaded.project)
    kept = [
        one
        for one in listed
        if one.span is None or any(_covers(place, one.span) for place in within)
    ]
    return in_file_order([*kept, *settings(Project(loaded, ()))])


def _covers(outer: Any, inner: Any) -> bool:
    return (
        outer.file == inner.file
        and (outer.line, outer.column) <= (inner.line, inner.column)
        and (inner.end_line, inner.end_column) <= (outer.end_line, outer.end_column)
    )


def _say(loaded: Loaded) -> bool:
    """Prints what is wrong, and says whether it is refused."""
    from compozy_prefect.diagnostics import has_errors

    found = _found(loaded)
    print_diagnostics(found, _masked(loaded))
    return has_errors(found)


def _masked(loaded: Loaded) -> dict[str, SourceText]:
    """The texts without the secrets in them, which may stand in a line that is shown."""
    from compozy_prefect.diagnostics import SourceText
    from compozy_prefect.language.registry import all_keys, shown

    sources = dict(loaded.sources)
    for setting in map(loaded.config.setting, all_keys()):
        span = setting.origin.span
        if span is None or shown(setting.key, setting.value) == setting.value:
            continue
        lines = sources[span.file].text.split("\n")
        for number in range(span.line, span.end_line + 1):
            line = lines[number - 1]
            start = span.column - 1 if number == span.line else 0
            end = span.end_column - 1 if number == span.end_line else len(line)
            lines[number - 1] = line[:start] + "*" * (end - start) + line[end:]
        sources[span.file] = SourceText(span.file, "\n".join(lines))
    return sources


def _nested(settings: Iterable[Setting]) -> dict[str, Any]:
    from compozy_prefect.language.registry import shown

    out: dict[str, Any] = {}
    for setting in settings:
        *above, name = setting.key.split(".")
        at = out
        for step in above:
            at = at.setdefault(step, {})
        at[name] = shown(setting.key, setting.value)
    return out


def _yaml(data: Any) -> str:
    import yaml

    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def _written(setting: Setting) -> str:
    """The value, without a secret; a duration with its unit."""
    from compozy_prefect.language.config import declaration
    from compozy_prefect.language.registry import shown

    text = _text(shown(setting.key, setting.value))
    is_duration = declaration(setting.key).kind.form == "duration" and text != "-"
    return f"{text}s" if is_duration else text


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value) or "-"
    return str(value) if value != {} else "-"


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    if rows:
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            yield "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
