"""What the database reports, as the one error that callers know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy.exc

from core.errors import StoreError

# Of SQLSTATE, its first characters: what a user can do about it.
_CURES = {
    "28": "Check user and password of the address.",
    "3D": "Make the database, or correct its name in the address.",
    "42501": "Grant the user the right to do that.",
    "42P01": "Open the store once with `segments axes`, which makes its tables.",
    "53100": "Free space on the server's disk.",
    "53300": "Raise `max_connections` of the server, or close other clients.",
    "57P03": "The server is starting or stopping; try again shortly.",
}


@contextmanager
def as_store_errors(doing: str, place: str) -> Iterator[None]:
    """Raise what psycopg and SQLAlchemy raise as `StoreError`.

    Parameters
    ----------
    doing : str
        What was being done, for the message: "load the profiles".
    place : str
        Of the database, without any password.
    """
    try:
        yield
    except psycopg.Error as error:
        raise store_error(doing, place, error) from error
    except sqlalchemy.exc.DBAPIError as error:
        raise store_error(doing, place, error.orig or error) from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise store_error(doing, place, error) from error


def store_error(doing: str, place: str, error: BaseException) -> StoreError:
    """Return the error to raise for what the database has reported."""
    state = getattr(error, "sqlstate", None) or ""
    reason = (" ".join(str(error).split()) or type(error).__name__).rstrip(".?")
    if not state and isinstance(error, psycopg.OperationalError):
        return StoreError(
            f"{place} cannot be reached to {doing}: {reason}. Check that the server "
            "runs, and that its address is right."
        )
    cure = next((text for start, text in _CURES.items() if state.startswith(start)), "")
    return StoreError(f"{place} could not {doing}: {reason}. {cure}".strip())
