"""Coverage-guided fuzzing of source, references, expressions and checks: `make fuzz`.

    python tests/property/fuzz_atheris.py [KIND] [--cases N] [--minutes M]

`sources` are bytes of a file and `expressions` those of one template, and go through atheris as
they are; of the others the bytes are the choices of what makes them (dice.py).

Where atheris is not installed, the cases are at random. A case that raises, or takes too long, ends
the run and leaves its bytes in `.hypothesis/fuzz/KIND/fault`, its project beside them in `project`.
`--again FILE` tries such bytes once more.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
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
# Each case writes its files anew: in memory, where there is a place, that takes a fifth less time.
MEMORY = Path("/dev/shm")


class Fuzz:
    """Bytes → the case that they stand for, tried and counted."""

    def __init__(self, kind: str, kept: Path) -> None:
        self.kind, self.kept = kind, kept
        self.project = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.cases = self.valid = 0
        self.slowest = 0.0  # seconds of CPU, with what makes the case
        self.start = time.monotonic()

    def __call__(self, data: bytes) -> None:
        try:
            if self.kind == "sources":
                self._try(lambda: compile_once(self.project, {"compozy.yaml": data}))
            elif self.kind == "expressions":
                self._try(lambda: render_once(data.decode("utf-8", "replace")))
            else:
                self.made_by(Dice(data))
        except BaseException:
            # Atheris would keep them too, but is sometimes ended by its own alarm before it does.
            (self.kept / "fault").write_bytes(data)
            raise

    def made_by(self, dice: random.Random) -> None:
        self._try(lambda: case(self.kind, dice, self.project))

    def _try(self, one: Callable[[], bool]) -> None:
        start = time.process_time()
        try:
            self.valid += one()
        except BaseException:
            shutil.copytree(self.project, self.kept / "project", dirs_exist_ok=True)
            shutil.rmtree(self.project)
            raise
        self.slowest = max(self.slowest, time.process_time() - start)
        self.cases += 1

    def is_over(self, cases: int, seconds: float) -> bool:
        """Whether it is enough; if so, what was done is said, and nothing stays behind."""
        took = time.monotonic() - self.start
        if self.cases < cases and took < seconds:
            return False
        shutil.rmtree(self.project)
        print(
            f"{self.kind}: {self.cases:,} cases, {self.valid:,} of them valid, in {took:,.0f} s; "
            f"the slowest took {self.slowest:.2f} s",
            flush=True,
        )
        return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", nargs="?", choices=KINDS, default="sources")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--again", type=Path)
    options = parser.parse_args()
    kept = KEPT / options.kind
    kept.mkdir(parents=True, exist_ok=True)
    fuzz = Fuzz(options.kind, kept)
    if options.again is not None:
        fuzz(options.again.read_bytes())
        fuzz.is_over(1, 0)
    elif atheris is None:
        print("atheris is not installed: cases at random")
        _at_random(fuzz, options.cases, 60 * options.minutes)
    else:
        print(f"{fuzz.kind}: up to {options.cases:,} cases in {options.minutes:g} min", flush=True)
        _guided(fuzz, options.cases, 60 * options.minutes)


def _at_random(fuzz: Fuzz, cases: int, seconds: float) -> None:
    while not fuzz.is_over(cases, seconds):
        number = fuzz.cases
        try:
            fuzz.made_by(random.Random(number))
        except BaseException:
            print(f"{fuzz.kind}: case {number} fails")
            raise


def _guided(fuzz: Fuzz, cases: int, seconds: float) -> None:
    corpus = fuzz.kept / "corpus"
    corpus.mkdir(exist_ok=True)
    for index, seed in enumerate(_seeds(fuzz.kind)):
        (corpus / f"seed-{index}").write_bytes(seed)
    words = fuzz.kept / "words"
    words.write_text("\n".join(map(_entry, _words(fuzz.kind))) + "\n", "ascii")

    def one(data: bytes) -> None:
        fuzz(data)
        if fuzz.is_over(cases, seconds):  # atheris counts too, and ends without a word from Python
            os._exit(0)

    arguments = [
        "-timeout=20",
        "-rss_limit_mb=2048",
        "-max_len=16384",
        "-len_control=0",
        "-verbosity=0",
        f"-dict={words}",
        f"-artifact_prefix={fuzz.kept}/",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *arguments], one)
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
