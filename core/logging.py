"""Messages for people: short lines on standard error, through the standard logger.

A library never configures logging; the commands call `configure` once.
"""

from __future__ import annotations

import logging

from rich.console import Console
from rich.logging import RichHandler

LOGGER_NAME = "stable_segments"


def get_logger() -> logging.Logger:
    """Return the project's logger."""
    return logging.getLogger(LOGGER_NAME)


def configure(level: int = logging.INFO) -> None:
    """Send the project's messages of `level` and above to standard error."""
    logger = get_logger()
    logger.handlers.clear()
    handler = RichHandler(
        console=Console(stderr=True),
        show_path=False,
        show_level=False,
        markup=False,
        highlighter=None,
        log_time_format="%H:%M:%S",
    )
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
