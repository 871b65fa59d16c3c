"""The `compozy` command: parses, calls, prints; what it says is decided elsewhere.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 the run failed or the
project is invalid, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from compozy_prefect.errors import CompozyError

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def entry() -> NoReturn:
    """The `compozy` script: `main`, and an end without Python's clean-up.

    Everything of a run has been handed over by then, and taking down the interpreter with
    Prefect in it takes a third of a second. Imports make no garbage: the collector, which would
    look through them time and again, starts when a flow does.
    """
    gc.disable()
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # JSON is UTF-8 in every locale, and a name in a message must not stop it.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _open_closed_streams() -> None:
    """What the caller has closed (`compozy run >&-`) is /dev/null: Python has None in its place."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; no traceback is shown without `--debug`."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    # Looked for here as well, since parsing itself may fail.
    debug = "--debug" in tokens
    try:
        from compozy_prefect.cli.app import launch

        code = launch(tokens)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more (`compozy plan | head`): not worth a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as fault:
        from compozy_prefect.errors import CompozyError

        if debug:
            traceback.print_exc()
        if isinstance(fault, CompozyError):
            return _explained(fault)
        if isinstance(fault, OSError):
            _say(f"error: {_reason(fault)}")
            return FAILED
        if not debug:
            _say(f"error: {type(fault).__name__}: {fault}")
            _say("This is a bug in compozy-prefect. Run it again with --debug to see where.")
        return FAILED


def _explained(fault: CompozyError) -> int:
    from compozy_prefect.errors import ProjectInvalid, UsageError

    if isinstance(fault, ProjectInvalid):
        from compozy_prefect.cli.output import print_diagnostics

        print_diagnostics(fault.diagnostics, fault.sources)
        return FAILED
    _say(f"error: {fault}")
    return USAGE if isinstance(fault, UsageError) else FAILED


def _reason(fault: OSError) -> str:
    where = f"{fault.filename}: " if fault.filename else ""
    return f"{where}{fault.strerror or fault}"


def _say(text: str) -> None:
    from compozy_prefect.diagnostics import printable

    print(printable(text), file=sys.stderr)
