"""Tell ``run.sh`` and ``run.bat`` whether ``.venv`` has to be made, updated or nothing.

Both call this file by its path, with the interpreter of ``.venv`` and before anything
is installed, so it needs the standard library only::

    python -I core/stamp.py begin [EXTRA...]     exits with one of the codes below
    python -I core/stamp.py install [EXTRA...]   with pip, whose code it ends with

The stamp is a small JSON file in ``.venv``. An update removes it first: a killed or
failed installation therefore leaves none, and the next run begins anew instead of
trusting a half-installed environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

READY, UPDATE, REBUILD = 0, 10, 11
STAMP = "stable-segments.json"
# Of the line that shows progress.
WIDTH = 78
# What decides an installation; the project itself is installed in editable mode.
INPUTS = ("pyproject.toml", "constraints.txt")


def python_version() -> str:
    """Return ``3.11`` or the like; a `.venv` belongs to one of them."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def installation_digest(repository: Path) -> str:
    """Return the SHA-256 of everything an installation depends on.

    The path counts too: an editable installation points to where the project was, so
    a moved folder has to be installed again.
    """
    digest = hashlib.sha256(os.fsencode(repository))
    for name in INPUTS:
        # Line ends differ between checkouts of one version; the content does not.
        content = (repository / name).read_bytes().replace(b"\r\n", b"\n")
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def begin(repository: Path, prefix: Path, extras: Sequence[str]) -> int:
    """Return what is to be done before `extras` can be relied on.

    Parameters
    ----------
    repository : Path
        Folder of ``pyproject.toml``.
    prefix : Path
        ``sys.prefix`` of the running interpreter.
    extras : sequence of str
        Optional dependencies that are needed now; more may be installed.

    Returns
    -------
    int
        0: nothing. 10: install into this environment (the stamp is removed).
        11: make the environment anew, for it is not the project's own, belongs to
        another Python, or its last installation did not finish.
    """
    own = repository / ".venv"
    if not (own.is_dir() and own.samefile(prefix)):
        return REBUILD
    stamp = _read_stamp(prefix / STAMP)
    if stamp.get("python") != python_version():
        return REBUILD
    is_current = stamp.get("digest") == installation_digest(repository)
    if is_current and set(extras) <= set(stamp.get("extras", [])):
        return READY
    (prefix / STAMP).unlink()
    return UPDATE


def install(repository: Path, prefix: Path, extras: Sequence[str]) -> int:
    """Install the project with the versions of ``constraints.txt``; return pip's code.

    What pip says is shown where it fails; until then a terminal gets its last line.
    """
    package = f".[{','.join(extras)}]" if extras else "."
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    # What is imported is compiled then: a fraction of all, and a minute spared here.
    command += ["--no-compile", "--progress-bar", "off"]
    command += ["--constraint", "constraints.txt"]
    said = []
    with subprocess.Popen(
        [*command, "--editable", package],
        cwd=repository,
        # pip refuses to touch a Python outside an environment.
        env={**os.environ, "PIP_REQUIRE_VIRTUALENV": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as pip:
        for line in pip.stdout or ():
            said.append(line)
            _show(line.strip())
    _show("")
    if pip.returncode:
        sys.stderr.writelines(said)
        return pip.returncode
    return finish(repository, prefix, extras)


def _show(line: str) -> None:
    """Write over the line of progress on a terminal."""
    if sys.stdout.isatty():
        print(f"\r{line[:WIDTH]:{WIDTH}}\r", end="", flush=True)


def finish(repository: Path, prefix: Path, extras: Sequence[str]) -> int:
    """Write the stamp of a finished installation and return 0."""
    stamp = {
        "python": python_version(),
        "digest": installation_digest(repository),
        "extras": sorted(extras),
    }
    (prefix / STAMP).write_text(json.dumps(stamp) + "\n", encoding="utf-8")
    return READY


def _read_stamp(path: Path) -> dict[str, Any]:
    """Return the stamp, empty where there is none or it was not written whole."""
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


if __name__ == "__main__":
    verb = {"begin": begin, "install": install}[sys.argv[1]]
    here = Path(__file__).resolve().parents[1]
    try:
        sys.exit(verb(here, Path(sys.prefix), sys.argv[2:]))
    except KeyboardInterrupt:
        sys.exit(130)
