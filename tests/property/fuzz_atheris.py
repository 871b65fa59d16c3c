"""Coverage-guided fuzzing of source, references, expressions and checks: `make fuzz`.

    python tests/property/fuzz_atheris.py [KIND] [--cases N] [--minutes M]

`sources` are bytes of a file, `expressions` those of one template, and go through atheris as they
are; `structures` and `templates` are what Hypothesis makes of the bytes.

Where atheris is not installed, Hypothesis goes at random. A case that raises, or takes too long,
ends the run: atheris leaves its bytes in `crash-…`, and the project stands in `.hypothesis/fuzz`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None
else:
    with atheris.instrument_imports(include=["compozy_prefect"], enable_loader_override=False):
        import compozy_prefect.compiler.checks
        import compozy_prefect.compiler.lower  # noqa: F401

from fuzzing import KINDS, TEMPLATES, VALID, compile_once, parse_once
from hypothesis import HealthCheck, given, settings

KEPT = Path(".hypothesis") / "fuzz"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", nargs="?", choices=KINDS, default="sources")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=5)
    options = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    end, done = time.monotonic() + 60 * options.minutes, 0

    @settings(
        max_examples=options.cases,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(KINDS[options.kind])
    def case(text: bytes) -> None:
        nonlocal done
        if time.monotonic() < end:
            compile_once(KEPT, text)
            done += 1

    if atheris is None:
        case()
        print(f"{done:,} {options.kind} at random: atheris is not installed")
        return
    corpus = KEPT / "corpus" / options.kind
    corpus.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(_seeds(options.kind)):
        (corpus / f"seed-{index}").write_bytes(seed)
    direct = {"sources": lambda data: compile_once(KEPT, data), "expressions": parse_once}
    fuzz = direct.get(options.kind) or case.hypothesis.fuzz_one_input
    arguments = [
        f"-runs={options.cases}",
        f"-max_total_time={int(60 * options.minutes)}",
        "-timeout=20",
        "-rss_limit_mb=2048",
        "-max_len=16384",
        "-len_control=0",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *arguments], fuzz)
    atheris.Fuzz()


def _seeds(kind: str) -> list[bytes]:
    if kind == "sources":
        return VALID
    if kind == "expressions":
        return [one.encode() for one in TEMPLATES]
    dice = random.Random(1)
    return [dice.randbytes(size) for size in (64, 256, 1024, 4096) for _ in range(10)]


if __name__ == "__main__":
    main()
