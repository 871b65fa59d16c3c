"""What compozy costs beside what it replaces: prints a table and writes results.json.

    make bench            five rounds
    python -m bench --rounds 9 --only chain
    python -m bench --database postgres        what depends on the database, on PostgreSQL

Ours and the baseline run in turn, on one standing server, and medians are compared, so that a busy
machine slows both. A goal that is missed is told and fails nothing.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from pathlib import Path

from bench.cases import Case, Result, cases, measure, on_postgres
from bench.ground import Ground
from tests.support.postgres import Missing, Postgres

RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    parser = ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is run")
    parser.add_argument("--only", default="", help="only the cases with this text in their name")
    parser.add_argument(
        "--database", choices=("sqlite", "postgres", "both"), default="both", help="of the server"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers are stopped then, too
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="compozy-bench-") as directory:
        if options.database != "postgres":
            with Ground(Path(directory, "sqlite")) as ground:
                results += measured(cases(ground), options)
        if options.database != "sqlite":
            results += measured_on_postgres(Path(directory, "postgres"), options)
    print(table(results))
    options.output.write_text(json.dumps(document(results, options.rounds), indent=2) + "\n")
    print(f"\n{options.rounds} rounds, written to {options.output}")


def measured_on_postgres(directory: Path, options: Namespace) -> list[Result]:
    try:
        postgres = Postgres()
    except Missing as missing:
        if options.database == "postgres":
            raise SystemExit(str(missing)) from None
        print(f"not on PostgreSQL: {missing}", file=sys.stderr)
        return []
    with postgres, Ground(directory, postgres.database()) as ground:
        return measured(on_postgres(ground), options)


def measured(cases: Iterable[Case], options: Namespace) -> list[Result]:
    results: list[Result] = []
    for case in cases:
        name = case.measures[0].name
        if options.only in name:
            print(f"… {name}", file=sys.stderr, flush=True)
            results += measure(case, options.rounds)
    return results


def table(results: list[Result]) -> str:
    rows = [("", "ours", "baseline", "ratio", "goal", "")]
    for result in results:
        if result.error:
            rows.append((result.name, "failed", "", "", result.error, ""))
            continue
        shown = (
            result.name,
            f"{result.ours:.3f} {result.unit}",
            "" if result.baseline is None else f"{result.baseline:.3f} {result.unit}",
            "" if result.ratio is None else f"{result.ratio:.2f}",
        )
        goals = [(text, "met" if met else "MISSED") for text, met in result.goals] or [("", "")]
        rows.append((*shown, *goals[0]))
        rows.extend(("", "", "", "", *goal) for goal in goals[1:])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def document(results: list[Result], rounds: int) -> dict[str, object]:
    import prefect

    machine = {"python": platform.python_version(), "prefect": prefect.__version__}
    return {
        "rounds": rounds,
        "machine": {**machine, "system": platform.platform(), "cpus": os.cpu_count()},
        "cases": [result.as_json() for result in results],
    }


if __name__ == "__main__":
    main()
