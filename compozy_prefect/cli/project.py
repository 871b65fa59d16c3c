"""Commands that read a project and run nothing: validate, plan, compile, explain, version."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from compozy_prefect.cli import DONE, FAILED
from compozy_prefect.cli.app import SETTINGS
from compozy_prefect.cli.output import json_text, note, print_diagnostics, write_text

if TYPE_CHECKING:
    from compozy_prefect.compiler.plan import Plan


def validate(
    path: Path = Path("."),
    /,
    *,
    format: Literal["text", "json"] = "text",
    strict: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Say what is wrong with a project. Nothing of it is executed.

    Parameters
    ----------
    path
        A project directory or a YAML file.
    format
        How the diagnostics are printed.
    strict
        Refuse warnings too.
    """
    from compozy_prefect.compiler.compile import check
    from compozy_prefect.diagnostics import has_errors, report

    checked = check(path, env_file=SETTINGS.env_file, strict=strict, flags=SETTINGS.flags)
    invalid = has_errors(checked.diagnostics, strict=strict)
    if format == "json":
        print(json.dumps(report(checked.diagnostics, strict=strict), indent=2, ensure_ascii=False))
    else:
        print_diagnostics(checked.diagnostics, checked.sources)
        if not invalid:
            loaded = checked.project.loaded
            tasks = sum(len(workflow.noun.tasks) for workflow in loaded.workflows)
            found = f"{_count(len(loaded.workflows), 'workflow')}, {_count(tasks, 'task')}"
            note(f"{path}: valid ({found})")
    return FAILED if invalid else DONE


def plan(
    path: Path = Path("."),
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    diff: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    cost: Annotated[bool, Parameter(negative="")] = False,
    items: int | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Print the plan: all that a run needs, as canonical JSON.

    Parameters
    ----------
    path
        A project directory or a YAML file.
    output
        Write to this file instead of stdout.
    diff
        Say instead what changes against this: a plan that `compozy plan -o` wrote, `-` for one
        on stdin, or another project. The exit code is 0 with and without a difference.
    cost
        Say instead what the models of a run may take and cost, as a range.
    items
        How many items a collection has whose size is not written out, for --cost.
    as_json
        Print the difference, or the cost, as data.
    """
    from compozy_prefect.compiler.compile import compile_project
    from compozy_prefect.errors import UsageError

    if as_json and diff is None and not cost:
        raise UsageError("--json is for --diff and --cost; a plan is JSON already")
    if cost and diff is not None:
        raise UsageError("--cost and --diff exclude each other")
    if items is not None and (not cost or items < 1):
        raise UsageError("--items is the size of collections for --cost, and at least 1")
    before = None if diff is None else _old_plan(diff)
    plan = compile_project(path, env_file=SETTINGS.env_file, flags=SETTINGS.flags).plan
    if cost:
        return _cost(plan, items, as_json, output)
    if before is None:
        write_text(plan.dumps(), output)
        return DONE
    from compozy_prefect.compiler.diff import diff as compare
    from compozy_prefect.diagnostics import printable

    found = compare(before, plan)
    write_text(json_text(found.data()) if as_json else printable(found.text()), output)
    return DONE


def _cost(plan: Plan, items: int | None, as_json: bool, output: Path | None) -> int:
    import asyncio

    from compozy_prefect.diagnostics import printable
    from compozy_prefect.runtime.estimate import ITEMS, Estimate, estimate, text
    from compozy_prefect.runtime.llm.prices import price_of

    async def work() -> dict[str, Estimate]:
        return {
            id: await estimate(workflow, price_of, items or ITEMS)
            for id, workflow in plan.workflows.items()
        }

    found = asyncio.run(work())
    if as_json:
        write_text(json_text({id: one.to_json() for id, one in found.items()}), output)
    else:
        write_text(printable("\n".join(text(id, one) for id, one in found.items())), output)
    return DONE


def _old_plan(given: Path) -> Plan:
    """The plan in a JSON file, on stdin, or of a project."""
    from compozy_prefect.compiler.compile import compile_project
    from compozy_prefect.compiler.plan import loads
    from compozy_prefect.errors import UsageError

    if given.is_dir() or given.suffix in (".yaml", ".yml"):
        return compile_project(given, env_file=SETTINGS.env_file, flags=SETTINGS.flags).plan
    name = "stdin" if str(given) == "-" else str(given)
    try:
        content = sys.stdin.buffer.read() if name == "stdin" else given.read_bytes()
        return loads(content.decode("utf-8"))
    except OSError as fault:
        raise UsageError(f"{name} cannot be read: {fault.strerror or fault}") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UsageError(f"{name} is no JSON; a plan is what `compozy plan -o` writes") from None
    except (ValueError, RecursionError) as fault:
        raise UsageError(f"{name} is no plan to compare with: {fault}") from None


def compile(
    path: Path = Path("."),
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    check: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Write a directory that `prefect deploy` takes: flows.py, plan.json and prefect.yaml.

    Parameters
    ----------
    path
        A project directory or a YAML file.
    output
        The directory to write.
    check
        Write nothing; exit with 1 when the directory is not up to date.
    """
    from compozy_prefect.compiler import emit
    from compozy_prefect.compiler.compile import compile_project

    project = compile_project(path, env_file=SETTINGS.env_file, flags=SETTINGS.flags)
    print_diagnostics(project.warnings, project.sources)
    files = emit.emit(project.plan)
    if check:
        stale = emit.stale(files, output)
        for name in stale:
            print(f"{output / name} is not up to date", file=sys.stderr)
        return FAILED if stale else DONE
    emit.write(files, output)
    note(f"wrote {', '.join(sorted(files))} to {output}")
    note(f"deploy with: cd {shlex.quote(str(output))} && prefect --no-prompt deploy --all")
    return DONE


def explain(code: str, /) -> int:
    """Explain a diagnostic: what it means, what is wrong and what would be right.

    Parameters
    ----------
    code
        A code such as CZ210.
    """
    from compozy_prefect.codes import known, page
    from compozy_prefect.errors import UsageError
    from compozy_prefect.language.names import suggest

    text = page(code.upper())
    if text is None:
        hint = suggest(code.upper(), known(), what="the codes are", limit=100)
        raise UsageError(f"there is no diagnostic {code!r}; {hint}")
    print(text.rstrip())
    return DONE


def version() -> int:
    """Print the versions of compozy-prefect, Prefect and Python."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    from compozy_prefect import __version__

    try:
        prefect = installed("prefect")
    except PackageNotFoundError:
        prefect = "not installed"
    print(f"compozy-prefect {__version__}")
    print(f"prefect {prefect}")
    print(f"python {platform.python_version()}")
    return DONE


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
