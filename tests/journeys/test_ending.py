"""Commands that are ended from outside: one line, an exit code, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import typer

from core.cli.app import guarded
from core.scratch import PREFIX, clear_leftovers, temporary_folder

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")


def ended(tmp_path: Path, number: int) -> subprocess.CompletedProcess[str]:
    """Run a preparation, and send it a signal once it has begun to write."""
    temporary = tmp_path / "tmp"
    temporary.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "core", "prepare", "--quiet"]
    command += ["--artifacts", str(tmp_path / "artifacts"), "--set"]
    process = subprocess.Popen(
        [*command, "sample.n_shops=30000"],
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not any(path.is_dir() for path in temporary.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")],
)
def test_an_ended_command_says_what_stands_and_leaves_nothing(
    tmp_path, number, code, word
):
    result = ended(tmp_path, number)
    assert result.returncode == code
    assert result.stderr == f"{word}: the last complete run is unchanged.\n"
    assert result.stdout == ""
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "artifacts" / "manifest.json").exists()


SWALLOWED = """
import signal, time
from core import __main__ as program

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.{name})

def work(script):
    Finalized()
    time.sleep(20)

program._start = work
program.main()
"""


@pytest.mark.parametrize(
    ("name", "code", "word"),
    [("SIGINT", 130, "Interrupted"), ("SIGTERM", 143, "Terminated")],
)
def test_an_interruption_that_running_code_swallows_is_not_lost(name, code, word):
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWED.format(name=name)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert done.returncode == code
    assert done.stderr == f"{word}: the last complete run is unchanged.\n"


def test_what_a_killed_run_leaves_goes_with_the_next(tmp_path):
    assert ended(tmp_path, signal.SIGKILL).returncode == -signal.SIGKILL
    temporary = tmp_path / "tmp"
    assert len(list(temporary.iterdir())) == 2
    strangers = temporary / f"{PREFIX}without-a-lock"
    strangers.mkdir()
    clear_leftovers(temporary)
    assert list(temporary.iterdir()) == [strangers]


def test_what_is_written_while_a_folder_goes_does_not_keep_it(tmp_path, monkeypatch):
    """As by a thread of Polars that has not ended yet."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rmdir, late = os.rmdir, []

    def rmdir_too_soon(path, **options):
        if not late:
            late.append(folder / "late.parquet")
            late[0].touch()
        rmdir(path, **options)

    with temporary_folder() as folder:
        monkeypatch.setattr(os, "rmdir", rmdir_too_soon)
    assert late
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_no_leftover(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = "import sys; from core.scratch import *; clear_leftovers(Path(sys.argv[1]))"
    with temporary_folder() as folder:
        (folder / "rows.parquet").write_text("", encoding="utf-8")
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
        assert (folder / "rows.parquet").exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_named_with_need_and_cure(tmp_path, monkeypatch, capsys):
    """Of polars as of Python, which say it differently."""
    # What other tests of this process have written to is not meant.
    monkeypatch.setattr("core.scratch._free_bytes", {})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = pl.DataFrame({"a": range(100_000)})
    script = typer.Typer(pretty_exceptions_enable=False)

    @script.command()
    def write(library: str) -> None:
        target = Path("/dev/full")
        rows.write_parquet(target) if library == "polars" else target.write_text("a")

    for library in ("polars", "python"):
        monkeypatch.setattr("sys.argv", ["write", library])
        with pytest.raises(SystemExit) as end:
            guarded(script, "write")
        assert end.value.code == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"the disk of `{tmp_path}` is full" in line
        assert "needs about" in line
        assert "set `TMPDIR`" in line
