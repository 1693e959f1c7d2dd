"""Data sets published on Kaggle, through the kagglehub client and its own cache."""

from __future__ import annotations

import os
from pathlib import Path

from core.data.files import SourceFile, describe, locate
from core.errors import SourceError, did_you_mean, listed

# Seconds to wait for an answer of any kind, before anything is asked of kagglehub,
# which sets no limit of its own.
PROBE_SECONDS = 10
BY_HAND = (
    "Or download it by hand from https://www.kaggle.com/datasets/{handle} and pass the "
    "file: `--input FILE`."
)


def fetch_kaggle(handle: str, file: str | None) -> list[SourceFile]:
    """Download a data set (or take it from kagglehub's cache) and return its tables.

    Parameters
    ----------
    handle : str
        ``owner/data-set``, or ``owner/data-set/versions/3``, which needs no network
        once it is in the cache.
    file : str or None
        The file wanted, by its path inside the data set; None: every table.

    Raises
    ------
    SourceError
        If there is no network, no such data set or file, or no access.
    """
    parts = handle.split("/")
    is_versioned = len(parts) == 4 and parts[2] == "versions" and parts[3].isdigit()
    if not all(parts) or not (len(parts) == 2 or is_versioned):
        raise SourceError(
            f"`data.kaggle_handle` is `{handle}`; expected `owner/data-set`, as in the "
            "address of its page, or `owner/data-set/versions/3`."
        )
    folder = Path(_download(handle, is_versioned=is_versioned))
    return _choose(folder, handle, file)


def _download(handle: str, *, is_versioned: bool) -> str:
    """Return the folder that kagglehub keeps the data set in."""
    try:
        import kagglehub
    except ImportError as error:
        raise SourceError(
            f"kagglehub cannot be imported ({describe(error)}). Install it, or pass "
            "your own file: `--input FILE`."
        ) from None
    try:
        # A version in the cache needs no network; Kaggle's notebooks have a road of
        # their own.
        if not is_versioned and "KAGGLE_DATA_PROXY_URL" not in os.environ:
            _probe()
        return str(kagglehub.dataset_download(handle))
    except Exception as error:
        # requests' errors, kagglehub's own and plain ValueErrors all arrive here.
        raise SourceError(_explain(error, handle)) from None


def _probe() -> None:
    """Ask Kaggle for any answer at all, within a time limit."""
    import requests
    from kagglesdk.kaggle_env import (  # type: ignore[import-untyped] # ships no types
        get_endpoint,
        get_env,
    )

    with requests.Session() as session:
        session.head(get_endpoint(get_env()), timeout=PROBE_SECONDS)


def _explain(error: Exception, handle: str) -> str:
    """Return what went wrong with a download, and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    by_hand = BY_HAND.format(handle="/".join(handle.split("/")[:2]))
    if status == 404:
        return (
            f"Kaggle knows no data set `{handle}`. Check `data.kaggle_handle` against "
            f"the address of its page. {by_hand}"
        )
    if status in (401, 403):
        return (
            f"Kaggle denies access to `{handle}` ({status}): it is private or asks for "
            "consent, or the handle is misspelt. Check `data.kaggle_handle`; log in "
            f"with `KAGGLE_USERNAME` and `KAGGLE_KEY`. {by_hand}"
        )
    if status is not None:
        return f"Kaggle answered `{handle}` with status {status}. Try later. {by_hand}"
    if isinstance(error, OSError):
        return (
            f"Kaggle cannot be reached for `{handle}` ({type(error).__name__}). Check "
            f"the network or the proxy. {by_hand}"
        )
    return f"the download of `{handle}` failed: {describe(error)}. {by_hand}"


def _choose(folder: Path, handle: str, file: str | None) -> list[SourceFile]:
    """Return the wanted file of a downloaded data set, or every table in it."""
    if file is None:
        return locate(str(folder))
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
    )
    if file in names:
        return [SourceFile(folder / file, file)]
    raise SourceError(
        f"the Kaggle data set `{handle}` holds no file `{file}`."
        f"{did_you_mean(file, names)} It holds {listed(names)}. Set "
        "`data.kaggle_file` to one of them, or to null for every table."
    )
