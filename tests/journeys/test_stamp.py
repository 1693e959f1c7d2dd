"""When an environment is trusted, updated or made anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core import stamp

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository whose environment was installed without extras."""
    for name in stamp.INPUTS:
        shutil.copy(REPOSITORY / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    stamp.finish(tmp_path, tmp_path / ".venv", [])
    return tmp_path


def test_a_finished_environment_is_ready(repo):
    assert stamp.begin(repo, repo / ".venv", []) == stamp.READY


def test_a_missing_extra_is_installed_once_and_then_serves_both_commands(repo):
    assert stamp.begin(repo, repo / ".venv", ["test"]) == stamp.UPDATE
    stamp.finish(repo, repo / ".venv", ["test"])
    assert stamp.begin(repo, repo / ".venv", ["test"]) == stamp.READY
    assert stamp.begin(repo, repo / ".venv", []) == stamp.READY


@pytest.mark.parametrize("name", stamp.INPUTS)
def test_a_changed_requirement_is_installed(repo, name):
    with (repo / name).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert stamp.begin(repo, repo / ".venv", []) == stamp.UPDATE


@pytest.mark.parametrize("name", stamp.INPUTS)
def test_other_line_ends_are_no_change(repo, name):
    content = (repo / name).read_bytes()
    (repo / name).write_bytes(content.replace(b"\n", b"\r\n"))
    assert stamp.begin(repo, repo / ".venv", []) == stamp.READY


def test_a_killed_installation_is_begun_anew(repo):
    assert stamp.begin(repo, repo / ".venv", ["test"]) == stamp.UPDATE
    # Killed here: no `finish`.
    assert stamp.begin(repo, repo / ".venv", []) == stamp.REBUILD


@pytest.mark.parametrize("content", ["", "{", "[]", '{"python": "3.1"}'])
def test_a_stamp_of_another_python_or_half_a_stamp_is_not_trusted(repo, content):
    (repo / ".venv" / stamp.STAMP).write_text(content, encoding="utf-8")
    assert stamp.begin(repo, repo / ".venv", []) == stamp.REBUILD


def test_another_environment_is_never_touched(repo, tmp_path):
    assert stamp.begin(repo, tmp_path, []) == stamp.REBUILD
    shutil.rmtree(repo / ".venv")
    assert stamp.begin(repo, repo / ".venv", []) == stamp.REBUILD


def test_a_moved_folder_is_installed_again(repo, tmp_path_factory):
    moved = tmp_path_factory.mktemp("moved") / "project"
    shutil.move(repo, moved)
    assert stamp.begin(moved, moved / ".venv", []) == stamp.UPDATE


def test_the_file_runs_alone_in_a_bare_environment(tmp_path):
    repo = tmp_path / "a project"
    (repo / "core").mkdir(parents=True)
    for name in (*stamp.INPUTS, "core/stamp.py"):
        shutil.copy(REPOSITORY / name, repo / name)
    # Would be imported instead of the standard library's without `-I`.
    (repo / "core" / "logging.py").write_text("raise SystemExit(99)", encoding="utf-8")
    venv = [sys.executable, "-m", "venv", "--without-pip", str(repo / ".venv")]
    subprocess.run(venv, check=True)
    scripts = repo / ".venv" / ("Scripts" if os.name == "nt" else "bin")
    # In place of pip: it says what it is told, and fails where the extra is `bad`.
    code = (
        "import sys; print(*sys.argv[1:], sep='\\n'); sys.exit('bad' in sys.argv[-1])"
    )
    site = next((repo / ".venv").rglob("site-packages"))
    (site / "pip.py").write_text(code, encoding="utf-8")
    calls = (
        ["begin"],
        ["install", "test"],
        ["begin"],
        ["begin", "x"],
        ["install", "bad"],
    )
    done = [
        subprocess.run(
            [scripts / "python", "-I", repo / "core" / "stamp.py", *arguments],
            check=False,
            capture_output=True,
            text=True,
        )
        for arguments in calls
    ]
    codes = [result.returncode for result in done]
    assert codes == [stamp.REBUILD, stamp.READY, stamp.READY, stamp.UPDATE, 1]
    # pip is heard only where it fails.
    assert [result.stdout + result.stderr for result in done[:4]] == [""] * 4
    *said, package = done[4].stderr.split()
    assert package == ".[bad]"
    assert said[-3:] == ["--constraint", "constraints.txt", "--editable"]
    assert not (repo / ".venv" / stamp.STAMP).exists()
