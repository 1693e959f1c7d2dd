"""CI has the real data and wine: there, a skip for want of them is a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

@pytest.mark.shared_data
def test_on_real_data(shared_data):
    assert shared_data.is_dir()

@pytest.mark.shared_data
@pytest.mark.skipif(True, reason="looked in the wrong place")
def test_that_looks_itself():
    raise AssertionError

@pytest.mark.skipif(True, reason="another system's")
def test_of_something_else():
    raise AssertionError
"""


@pytest.mark.parametrize(
    ("strict", "expected"),
    [("", "3 skipped"), ("wine shared_data", "1 skipped, 2 errors")],
)
def test_fail_on_skip_turns_a_skip_into_a_failure(tmp_path, strict, expected):
    folder = tmp_path / "repository" / "tests"
    folder.mkdir(parents=True)
    for name in ("conftest.py", "once.py"):
        shutil.copy(Path(__file__).parents[1] / name, folder)
    (folder / "test_it.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = shared_data\n", "utf-8")
    result = subprocess.run(
        # A temporary folder of its own: pytest closes the shared one to other users,
        # such as the embedded PostgreSQL of tests that run at the same time.
        [sys.executable, "-m", "pytest", "-ra", "--basetemp", tmp_path / "own", folder],
        cwd=tmp_path,
        env=os.environ | {"FAIL_ON_SKIP": strict},
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in result.stdout.splitlines()[-1], result.stdout
    assert str(tmp_path / "shared" / "data") in result.stdout
