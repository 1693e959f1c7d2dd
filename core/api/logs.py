"""Logs as one JSON object a line, for machines to collect."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from core.logging import LOGGER_NAME

LOGGER = logging.getLogger(f"{LOGGER_NAME}.api")


class JsonFormatter(logging.Formatter):
    """Write a record, and what was passed as ``extra={"fields": {...}}``, as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; line breaks and quotes in it are escaped."""
        moment = datetime.fromtimestamp(record.created, UTC)
        entry: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        entry.update(getattr(record, "fields", {}))
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure_json(level: int = logging.INFO) -> None:
    """Send our messages and uvicorn's to standard output, as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    for name in (LOGGER_NAME, "uvicorn", "psycopg"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level if name != "psycopg" else logging.ERROR)
        logger.propagate = False


def log(level: int, event: str, **fields: Any) -> None:
    """Log one event with its figures."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, event, extra={"fields": fields})
