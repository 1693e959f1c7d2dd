"""run.sh, run for real with interpreters that only record how they are called."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PIPELINES = (
    "feature-preparation-pipeline.py",
    "autoencoder-training-pipeline.py",
    "clustering-training-pipeline.py",
    "clustering-inference-pipeline.py",
)
IN_PARALLEL = ["--numprocesses", "logical", "--maxprocesses", "4"]
IN_PARALLEL += ["--dist", "loadfile", "--no-loadscope-reorder"]
posix_only = pytest.mark.skipif(os.name == "nt", reason="run.sh needs a POSIX shell")

# Records who was called where and with what, one line per call, fields split by |.
# `-m venv --clear --upgrade-deps DIR` puts a copy of the stub where the environment's
# python belongs. Python has to keep what it compiles, whatever the caller's shell says.
STUB = r"""#!/bin/sh
[ -z "${PYTHONDONTWRITEBYTECODE:-}" ] || exit 99
case "$0" in */.venv/bin/python) who=venv ;; *) who=${0##*/} ;; esac
{ printf '%s|%s' "$who" "$PWD"; printf '|%s' "$@"; printf '\n'; } >> "$STUB_LOG"
case "$*" in
    "-m venv --clear --upgrade-deps "*) mkdir -p "$5/bin" && cp "$0" "$5/bin/python" ;;
    *"stamp.py begin"*) exit "${STUB_BEGIN:-0}" ;;
    --version) echo "Python 3.9.1" ;;
esac
case "$who: $*" in *"${STUB_WAIT:-nothing waits}"*)
    exec 3>&2 2>&-
    trap 'trap "" TERM; echo "I was asked to end" >&3; exit 143' TERM
    trap 'echo "I was interrupted" >&3; exit 130' INT
    : > "$STUB_LOG.waits"; while :; do sleep 0.05; done ;;
esac
case "$who: $*" in *"${STUB_FAIL:-nothing fails}"*) exit "${STUB_CODE:-1}" ;; esac
"""


class Project:
    """A copy of run.sh in a folder with a space in its name, and stub interpreters."""

    def __init__(self, folder: Path) -> None:
        self.repo = folder / "a project"
        self.caller = folder / "elsewhere"
        self.bin = folder / "bin"
        self.log = folder / "log.txt"
        for made in (self.repo, self.caller, self.bin):
            made.mkdir()
        (self.repo / "run.sh").write_bytes((REPOSITORY / "run.sh").read_bytes())
        self.add_python("python3")

    def add_python(self, name: str) -> Path:
        stub = self.bin / name
        stub.write_text(STUB, encoding="utf-8")
        stub.chmod(0o755)
        return stub

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        self.log.write_text("", encoding="utf-8")
        clean = {k: v for k, v in os.environ.items() if k != "PYTHON"}
        path = f"{self.bin}{os.pathsep}/usr/bin{os.pathsep}/bin"
        return subprocess.Popen(
            ["bash", str(self.repo / "run.sh"), *arguments],
            cwd=self.caller,
            env=clean
            | {"PATH": path, "STUB_LOG": str(self.log), "PYTHONDONTWRITEBYTECODE": "1"}
            | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
            # Tests that a shell runs in the background ignore Ctrl-C themselves.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environ)
        out, err = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def calls(self) -> list[list[str]]:
        """Return [who, where, *arguments] of every call, in order."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [line.split("|") for line in lines]

    def steps(self) -> list[str]:
        """Return the calls after the search for an interpreter, in short."""
        return [
            step for call in self.calls() if not (step := step_of(call)).endswith("-c")
        ]


def step_of(call: list[str]) -> str:
    """Return `venv pytest`, `venv stamp begin` or `venv some-pipeline.py`."""
    who, _, first, *rest = call
    if first == "-m":
        return f"{who} {rest[0]}"
    if first == "-P":
        return f"{who} {rest[1]}"
    if first == "-I":
        return f"{who} stamp {rest[1]}"
    return f"{who} {Path(first).name}"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


INSTALL = ["python3 venv", "venv stamp install"]
RUN = [f"venv {name}" for name in PIPELINES]


@posix_only
def test_a_first_run_installs_and_runs_the_four_pipelines_in_order(project):
    result = project.run()
    assert result.returncode == 0, result.stderr
    assert project.steps() == INSTALL + RUN


@posix_only
@pytest.mark.parametrize(
    ("begin", "expected"), [("0", []), ("10", INSTALL[1:]), ("11", INSTALL)]
)
def test_a_later_run_installs_only_what_the_stamp_asks_for(project, begin, expected):
    project.run()
    assert project.run(STUB_BEGIN=begin).returncode == 0
    assert project.steps() == ["venv stamp begin", *expected, *RUN]


@posix_only
def test_arguments_reach_each_pipeline_unharmed(project):
    arguments = [
        "--input",
        "my sales ü.csv",
        "--set",
        "",
        "*",
        "$HOME `x` \\ ' \"",
        "-",
    ]
    assert project.run(*arguments).returncode == 0
    pipelines = [call for call in project.calls() if step_of(call) in RUN]
    assert [call[3:] for call in pipelines] == [arguments] * 4


@posix_only
def test_pipelines_run_where_the_caller_is_so_relative_paths_hold(project):
    project.run("--input", "sales.csv")
    folders = {call[1] for call in project.calls() if step_of(call) in RUN}
    assert folders == {str(project.caller)}


@posix_only
def test_the_test_command_installs_the_test_extra_and_passes_arguments_on(project):
    result = project.run("test", "-k", "noise or strength")
    assert result.returncode == 0, result.stderr
    assert project.steps() == [*INSTALL, "venv pytest"]
    calls = {step_of(call): call for call in project.calls()}
    assert calls["venv stamp install"][-1] == "test"
    arguments = ["pytest", *IN_PARALLEL, "-k", "noise or strength"]
    assert calls["venv pytest"][3:] == arguments
    assert calls["venv pytest"][1] == str(project.repo)


@posix_only
@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (["explain", "S 1", "--json"], ["explain", "S 1", "--json"]),
        (["help"], ["--help"]),
        (["--version"], ["--version"]),
        (["keys", "create", "--help"], ["keys", "create", "--help"]),
    ],
)
def test_a_verb_is_passed_on_as_it_is_with_its_exit_code(project, arguments, passed):
    result = project.run(*arguments, STUB_FAIL="-m core", STUB_CODE="6")
    assert result.returncode == 6
    assert project.steps() == [*INSTALL, "venv core"]
    *_, call = project.calls()
    assert call[1] == str(project.caller)
    assert call[2:] == ["-P", "-m", "core", *passed]
    # Of an installation and of the failed step nothing goes to where the verb writes.
    assert result.stdout == ""
    assert "step failed" not in result.stderr


@posix_only
@pytest.mark.parametrize("code", [130, 143])
def test_an_ended_pipeline_has_the_last_word(project, code):
    result = project.run(STUB_FAIL=PIPELINES[0], STUB_CODE=str(code))
    assert result.returncode == code
    assert result.stderr == ""


@posix_only
@pytest.mark.parametrize(
    ("send", "number", "code", "said"),
    [
        ("kill", signal.SIGTERM, 143, "I was asked to end"),
        ("killpg", signal.SIGTERM, 143, "I was asked to end"),
        ("killpg", signal.SIGINT, 130, "I was interrupted"),
    ],
)
def test_a_signal_ends_the_running_pipeline_which_has_the_last_word(
    project, send, number, code, said
):
    """To the script alone, as from a service manager, and to all, as from Ctrl-C."""
    process = project.start(STUB_WAIT=PIPELINES[1])
    deadline = time.monotonic() + 30
    while not project.log.with_name("log.txt.waits").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    getattr(os, send)(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (code, f"{said}\n")
    assert project.steps() == INSTALL + RUN[:2]


@posix_only
@pytest.mark.parametrize(
    ("fails", "code", "said", "done"),
    [
        ("-m venv", 3, "python -m venv", 0),
        ("stamp.py install", 2, "python -m pip install", 1),
        *((name, 4 + i, name, 2 + i) for i, name in enumerate(PIPELINES)),
    ],
)
def test_the_first_failing_step_ends_the_run_with_its_exit_code(
    project, fails, code, said, done
):
    result = project.run(STUB_FAIL=fails, STUB_CODE=str(code))
    assert result.returncode == code
    assert f"run.sh: step failed: {said} (exit code {code})" in result.stderr
    assert project.steps() == (INSTALL + RUN)[: done + 1]


@posix_only
def test_failing_tests_end_the_test_command_with_their_exit_code(project):
    result = project.run("test", STUB_FAIL="-m pytest", STUB_CODE="5")
    assert result.returncode == 5
    assert "step failed: python -m pytest (exit code 5)" in result.stderr


@posix_only
def test_an_old_python_is_named_and_nothing_is_made(project):
    # All of them, or the machine's own would be found.
    for name in ("python3.13", "python3.12", "python3.11", "python"):
        project.add_python(name)
    result = project.run(STUB_FAIL="-c import sys")
    assert result.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 is needed" in result.stderr
    assert "python3: Python 3.9.1" in result.stderr
    assert not (project.repo / ".venv").exists()


@posix_only
def test_a_fitting_python_beside_another_python3_is_found(project):
    project.add_python("python3.12")
    assert project.run(STUB_FAIL="python3: -c import sys").returncode == 0
    assert project.steps()[0] == "python3.12 venv"


@posix_only
def test_the_variable_python_names_the_interpreter(project):
    named = project.add_python("my python")
    assert project.run(PYTHON=str(named)).returncode == 0
    assert project.steps()[0] == "my python venv"
    (project.repo / ".venv" / "bin" / "python").unlink()
    result = project.run(PYTHON="/no/such/python")
    assert result.returncode == 1
    assert "/no/such/python: not there" in result.stderr


@posix_only
def test_a_python_without_ensurepip_is_refused_with_the_cure(project):
    result = project.run(STUB_FAIL="-c import ensurepip")
    assert result.returncode == 1
    assert "apt-get install python3-venv" in result.stderr
    assert project.steps() == []


@posix_only
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_printed_at_once_without_an_environment(project, flag):
    result = project.run(flag)
    assert result.returncode == 0
    assert "--input PATH" in result.stdout
    assert project.calls() == []


def test_run_sh_and_run_bat_take_the_same_steps():
    wanted = re.compile(
        r"-m (?:venv --clear --upgrade-deps|pytest)|-P -m core"
        r"|stamp\.py\"? (?:begin|install)"
        r"|import ensurepip, venv|\(3, 11\) <= sys\.version_info < \(3, 14\)"
        r"|(?<=run_script )[\w-]+-pipeline\.py"
    )
    found = []
    for name in ("run.sh", "run.bat"):
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        text = re.sub(r"\\\n\s*", "", text)
        steps = [step.replace('"', "") for step in wanted.findall(text)]
        assert [s for s in steps if s.endswith("-pipeline.py")] == list(PIPELINES)
        found.append(set(steps))
    assert found[0] == found[1]
    assert len(found[0]) == len(PIPELINES) + 7


def test_run_sh_and_run_bat_offer_the_same_options():
    offered = [
        re.findall(r"^(?:echo)?\s+(--\w+ .*)$", text, flags=re.MULTILINE)
        for name in ("run.sh", "run.bat")
        for text in [(REPOSITORY / name).read_text(encoding="utf-8")]
    ]
    assert offered[0] == offered[1]
    assert len(offered[0]) == 6


def test_git_keeps_line_ends_and_the_executable_bit():
    command = ["git", "ls-files", "--stage", "--eol", "run.sh", "run.bat", ".ci/run"]
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout, so git keeps nothing")
    result = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    modes, ends = {}, {}
    for line in result.stdout.splitlines():
        attributes, _, name = line.rpartition("\t")
        modes[name] = attributes[:6]
        ends[name] = re.search(r"eol=(\w+)", attributes)[1]
    assert modes == {".ci/run": "100755", "run.bat": "100644", "run.sh": "100755"}
    assert ends == {".ci/run": "lf", "run.bat": "crlf", "run.sh": "lf"}
