"""Coverage-guided fuzzing of source, references, expressions and checks: `make fuzz`.

    python tests/property/fuzz_atheris.py [KIND] [--cases N] [--minutes M]

`sources` are bytes of a file and `expressions` those of one template, and go through atheris as
they are; of the others the bytes are the choices of what makes them (dice.py).

Where atheris is not installed, the cases are at random. A case that raises, or takes too long, ends
the run: atheris leaves its bytes in `crash-…` of the kind's folder in `.hypothesis/fuzz`, where the
project stands as well. `--again FILE` tries such bytes once more.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None
else:
    with atheris.instrument_imports(include=["compozy_prefect"], enable_loader_override=False):
        import compozy_prefect.compiler.checks
        import compozy_prefect.compiler.lower  # noqa: F401

from dice import Dice
from fuzzing import KINDS, TEMPLATES, TOKENS, VALID, WORDS, case, compile_once, render_once

KEPT = Path(".hypothesis") / "fuzz"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", nargs="?", choices=KINDS, default="sources")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--again", type=Path)
    options = parser.parse_args()
    kept = KEPT / options.kind
    project = kept / "project"
    project.mkdir(parents=True, exist_ok=True)
    fuzz = _one(options.kind, project)
    if options.again is not None:
        fuzz(options.again.read_bytes())
    elif atheris is None:
        done, valid = _at_random(options.kind, project, options.cases, 60 * options.minutes)
        print(
            f"{options.kind}: {done:,} cases at random, {valid:,} of them valid; "
            "atheris is not installed"
        )
    else:
        _guided(options.kind, kept, options.cases, int(60 * options.minutes), fuzz)


def _one(kind: str, project: Path) -> Callable[[bytes], None]:
    """Bytes → the case that they stand for, tried."""

    def fuzz(data: bytes) -> None:
        if kind == "sources":
            compile_once(project, {"compozy.yaml": data})
        elif kind == "expressions":
            render_once(data.decode("utf-8", "replace"))
        else:
            case(kind, Dice(data), project)

    return fuzz


def _at_random(kind: str, project: Path, cases: int, seconds: float) -> tuple[int, int]:
    """The cases tried, and how many of them were valid."""
    end, valid = time.monotonic() + seconds, 0
    for number in range(cases):
        if time.monotonic() > end:
            return number, valid
        try:
            valid += case(kind, random.Random(number), project)
        except BaseException:
            print(f"{kind}: case {number} fails")
            raise
    return cases, valid


def _guided(kind: str, kept: Path, cases: int, seconds: int, fuzz: Callable[[bytes], None]) -> None:
    corpus = kept / "corpus"
    corpus.mkdir(exist_ok=True)
    for index, seed in enumerate(_seeds(kind)):
        (corpus / f"seed-{index}").write_bytes(seed)
    words = kept / "words"
    words.write_text("\n".join(map(_entry, _words(kind))) + "\n", "ascii")
    arguments = [
        f"-runs={cases}",
        f"-max_total_time={seconds}",
        "-timeout=20",
        "-rss_limit_mb=2048",
        "-max_len=16384",
        "-len_control=0",
        "-print_final_stats=1",
        "-verbosity=0",
        f"-dict={words}",
        f"-artifact_prefix={kept}/",
        str(corpus),
    ]
    print(f"{kind}: up to {cases:,} cases in {seconds} s", flush=True)
    atheris.Setup([sys.argv[0], *arguments], fuzz)
    atheris.Fuzz()


def _seeds(kind: str) -> list[bytes]:
    if kind == "sources":
        return [one.encode() for one in VALID]
    if kind == "expressions":
        return [one.encode() for one in TEMPLATES]
    dice = random.Random(1)
    return [dice.randbytes(size) for size in (64, 256, 1024, 4096) for _ in range(10)]


def _words(kind: str) -> list[str]:
    """What atheris may put into the bytes."""
    return [*TOKENS, *WORDS] if kind in ("sources", "expressions") else ["a"]


def _entry(word: str) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"'


if __name__ == "__main__":
    main()
