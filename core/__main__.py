"""Where a command starts: ``run.sh VERB``, ``segments VERB``, a script at the root.

Imports the standard library only, until it is known that the rest is there.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
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
    sys.unraisablehook = _interrupt_again
    # Read when NumPy is imported: its products here are small, and threads that wait
    # for one another take up to 16 times as long on a busy machine (measured).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Imports make a million objects that never become garbage. Looking through them
    # is a sixth of what importing TensorFlow takes.
    gc.set_threshold(10_000, 10, 100)
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


def _interrupt_again(lost: Any) -> None:
    """Interrupt once more where the code that was running swallows what is raised.

    So does what a library calls back from C, such as a check of a class.
    """
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    number = signal.SIGINT
    if issubclass(lost.exc_type, Terminated):
        number = signal.SIGTERM
        signal.signal(number, _terminate)
    soon = threading.Timer(0.05, _send, [number])
    soon.daemon = True
    soon.start()


def _send(number: int) -> None:
    main_thread = threading.main_thread().ident
    if sys.platform == "win32" or main_thread is None:
        signal.raise_signal(number)
    else:
        # To the thread that may be waiting; a signal of this one would not wake it.
        signal.pthread_kill(main_thread, number)


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
        if (missing.name or "").partition(".")[0] in ("", __package__):
            raise
        sys.exit(
            f"`{missing.name}` is not installed in this Python ({sys.executable}). Run "
            f"`{PROGRAM}`, which installs the project and runs the four pipelines; "
            f"then `{PROGRAM} {script or 'VERB'}` runs in its environment."
        )
    run(script)


if __name__ == "__main__":
    main()
