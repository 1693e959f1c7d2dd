"""The application that the verbs join, and how its commands end.

Errors of the user end in one message and the exit code of their kind, never in a
traceback.
"""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from core.errors import SegmentsError

app = typer.Typer(
    name="segments",
    help="Turn sales rows into retailer segments, and say so when there are none.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def guarded(command: typer.Typer) -> None:
    """Run a command; exit with the code of a user's error, after its message.

    An operating system's error, such as a full disk, is the user's to mend as well.
    """
    try:
        command()
    except KeyboardInterrupt:
        typer.echo("Interrupted; the last complete run is unchanged.", err=True)
        sys.exit(130)
    except (SegmentsError, OSError) as error:
        message = f"{type(error).__name__}: {error}"
        Console(stderr=True).print(
            message, style="bold red", soft_wrap=True, highlight=False, markup=False
        )
        sys.exit(getattr(error, "exit_code", SegmentsError.exit_code))
