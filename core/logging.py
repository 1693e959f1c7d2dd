"""Messages for people: short lines on standard error, through the standard logger.

A library never configures logging; the commands call `configure` once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TextColumn

from core.redaction import redacted

LOGGER_NAME = "stable_segments"


def get_logger() -> logging.Logger:
    """Return the project's logger."""
    return logging.getLogger(LOGGER_NAME)


class RedactedFormatter(logging.Formatter):
    """Write a record as a line of text, without passwords."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return redacted(super().format(record))


def configure(level: int = logging.INFO) -> None:
    """Send the project's messages of `level` and above to standard error."""
    logger = get_logger()
    logger.handlers.clear()
    handler = logging.StreamHandler()
    handler.setFormatter(RedactedFormatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


@contextmanager
def progress(description: str) -> Iterator[Callable[..., None]]:
    """Show a progress bar on a terminal; a log file gets the description only.

    Yields
    ------
    callable
        To be called with (steps done, steps in all, further figures to show).
    """
    get_logger().info("%s", description)
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[details]}"))
    console = Console(stderr=True)
    disabled = not console.is_terminal or not get_logger().isEnabledFor(logging.INFO)
    with Progress(*columns, console=console, transient=True, disable=disabled) as bar:
        task = bar.add_task(description, total=None, details="")

        def report(done: int, total: int, *figures: float) -> None:
            details = "  ".join(f"{figure:.4f}" for figure in figures)
            bar.update(task, completed=done, total=total, details=details)

        yield report
