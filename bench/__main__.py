"""What compozy costs beside what it replaces: prints a table and writes results.json.

    make bench            five rounds
    python -m bench --rounds 9 --only chain

Ours and the baseline run in turn, on one standing server, and medians are compared, so that a busy
machine slows both. A goal that is missed is told and fails nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from bench.cases import Case, Result, cases, measure
from bench.ground import Ground

RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is run")
    parser.add_argument("--only", default="", help="only the cases with this text in their name")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="compozy-bench-") as directory:
        ground = Ground(Path(directory))
        try:
            results = [
                result
                for case in cases(ground)
                if options.only in case.measures[0].name
                for result in run(case, options.rounds)
            ]
        finally:
            ground.close()
    print(table(results))
    options.output.write_text(json.dumps(document(results, options.rounds), indent=2) + "\n")
    print(f"\n{options.rounds} rounds, written to {options.output}")


def run(case: Case, rounds: int) -> list[Result]:
    print(f"… {case.measures[0].name}", file=sys.stderr, flush=True)
    return measure(case, rounds)


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
