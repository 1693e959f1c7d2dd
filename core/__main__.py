"""Where a command starts: ``run.sh VERB``, ``segments VERB``, a script at the root.

Imports the standard library only, until it is known that the rest is there.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

OLDEST = (3, 11)


class Terminated(KeyboardInterrupt):
    """The process was asked to end: as Ctrl-C, so that nothing is left behind."""


def main(script: str | None = None) -> None:
    """Run the command line, or one verb alone as a script at the root.

    Whatever ends a command is one message and an exit code: those of
    `core.errors`, 130 after Ctrl-C, and 143 after SIGTERM.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        _start(script)
    except KeyboardInterrupt as stop:
        is_terminated = isinstance(stop, Terminated)
        what = "Terminated" if is_terminated else "Interrupted"
        stands = str(stop) or "the last complete run is unchanged."
        print(f"{what}: {stands}", file=sys.stderr)
        sys.exit(143 if is_terminated else 130)


def _terminate(number: int, frame: Any) -> None:
    # `run.sh` hands on what may have come here already: clean up once, undisturbed.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def _start(script: str | None) -> None:
    from core.errors import PROGRAM

    if sys.version_info < OLDEST:
        sys.exit(
            f"Python 3.11 or newer is needed; this is {sys.version.split()[0]} "
            f"({sys.executable}). `{PROGRAM}` finds one and installs the project."
        )
    try:
        from core.cli import run
    except ModuleNotFoundError as missing:
        if (missing.name or "core").partition(".")[0] == "core":
            raise
        sys.exit(
            f"`{missing.name}` is not installed in this Python ({sys.executable}). Run "
            f"`{PROGRAM}`, which installs the project and runs the four pipelines; "
            f"then `{PROGRAM} {script or 'VERB'}` runs in its environment."
        )
    run(script)


if __name__ == "__main__":
    main()
