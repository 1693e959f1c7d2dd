"""run.bat, run for real by wine, with interpreters that record their arguments."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_run_scripts import IN_PARALLEL, PIPELINES

REPOSITORY = Path(__file__).resolve().parents[2]
WINE = shutil.which("wine") or shutil.which("wine64")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.wine,
    pytest.mark.skipif(WINE is None, reason="wine is not installed"),
]

# Records `who|where|arguments` of every call. WHAT is the script, the module after
# -m, the verb of the stamp after -I, or `-c`. `-m venv --clear --upgrade-deps DIR`
# makes a stub where the environment's python belongs; `find_installed` may be told that
# a base is old.
STUB = r"""@echo off
setlocal
if defined PYTHONDONTWRITEBYTECODE exit /b 99
set "WHO={name}"
if exist "%~dp0..\pyvenv.cfg" set "WHO=venv"
>>"%STUB_LOG%" echo %WHO%^|%CD%^|%*
{drop}
set "WHAT=%~nx1"
if "%~1"=="-m" set "WHAT=%~2"
if "%~1"=="-I" set "WHAT=%~3"
if "%~1"=="-P" set "WHAT=%~3"
if "%WHAT%"=="begin" exit /b %STUB_BEGIN%
if "%WHAT%"=="--version" echo Python 3.9.1
if "%WHAT%"=="-c" goto look
if "%WHAT%"=="%STUB_FAIL%" exit /b %STUB_CODE%
if not "%WHAT%"=="venv" exit /b 0
mkdir "%~5\Scripts"
copy "%STUB_BIN%\python.bat" "%~5\Scripts\python.bat" >nul
echo made by a stub>"%~5\pyvenv.cfg"
exit /b 0
:look
if "%WHO%"=="%STUB_OLD%" exit /b 1
exit /b 0
"""


@pytest.fixture(scope="module")
def wine_environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start one wine prefix, without display, Mono or Gecko, and end its server."""
    home = tmp_path_factory.mktemp("wine")
    kept = {k: v for k, v in os.environ.items() if k not in {"DISPLAY", "PYTHON"}}
    environ = kept | {
        "HOME": str(home),
        "WINEPREFIX": str(home / "prefix"),
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree,mshtml=;winemenubuilder.exe=d",
    }
    kept_open = None
    try:
        subprocess.run(
            [WINE, "cmd", "/c", "exit 0"],
            env=environ,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=180,
        )
        # As long as one program runs, wine's services stay up, and the next one starts
        # in a fifth of the time. This one waits for input.
        kept_open = subprocess.Popen(
            [WINE, "cmd"],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        yield environ
    finally:
        for option in ("-k", "-w"):
            subprocess.run(["wineserver", option], env=environ, check=False, timeout=60)
        if kept_open is not None:
            kept_open.communicate(timeout=60)


class Project:
    """A copy of run.bat in a folder with a space in its name, and stub interpreters."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.repo = folder / "a project"
        self.caller = folder / "elsewhere"
        self.bin = folder / "bin"
        self.log = folder / "log.txt"
        for made in (self.repo, self.caller, self.bin):
            made.mkdir()
        text = (REPOSITORY / "run.bat").read_text(encoding="utf-8")
        (self.repo / "run.bat").write_text(text, encoding="utf-8", newline="\r\n")
        # After `cmd /c`, a quoted program with quoted arguments is misread, and wine's
        # `call` of a batch file loses its exit code.
        go = '@"..\\a project\\run.bat" %*\r\n'
        (self.caller / "go.bat").write_text(go, encoding="utf-8", newline="")
        self.environ = environ | {
            "STUB_LOG": windows_path(self.log),
            "STUB_BIN": windows_path(self.bin),
            "WINEPATH": windows_path(self.bin),
            "STUB_BEGIN": "0",
            "STUB_CODE": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.add_python("py")
        self.add_python("python")

    def add_python(self, name: str) -> None:
        text = STUB.format(name=name, drop="shift" if name == "py" else "")
        stub = self.bin / f"{name}.bat"
        stub.write_text(text, encoding="utf-8", newline="\r\n")

    def make_environment(self) -> None:
        """Do by hand what a first run does, for tests of what comes after."""
        scripts = self.repo / ".venv" / "Scripts"
        scripts.mkdir(parents=True)
        shutil.copy(self.bin / "python.bat", scripts)
        (scripts.parent / "pyvenv.cfg").write_text("", encoding="utf-8")

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("", encoding="utf-8")
        # Files and no pipes: services that wine starts on the way keep a pipe open.
        said = [self.caller / "stdout.txt", self.caller / "stderr.txt"]
        with said[0].open("wb") as out, said[1].open("wb") as err:
            done = subprocess.run(
                [WINE, "cmd", "/c", "go.bat", *arguments],
                cwd=self.caller,
                env=self.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                check=False,
                timeout=60,
            )
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in said]
        return subprocess.CompletedProcess(done.args, done.returncode, *texts)

    def calls(self) -> list[list[str]]:
        """Return [who, where, arguments] of every call but the looks at versions."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        calls = [line.rstrip().split("|") for line in lines]
        return [call for call in calls if " -c " not in f" {call[2]}"]

    def arguments(self, who: str) -> list[str]:
        """Return the arguments of every call of `who`, paths made relative."""
        here = windows_path(self.repo) + "\\"
        return [
            " ".join(call[2].replace(here, "").split())
            for call in self.calls()
            if call[0] == who
        ]


def windows_path(path: Path) -> str:
    """Return the path as wine shows it, under drive Z:."""
    return "Z:" + str(path).replace("/", "\\")


@pytest.fixture
def project(tmp_path: Path, wine_environ: dict[str, str]) -> Project:
    return Project(tmp_path, wine_environ)


PYTEST = " ".join(["-m pytest", *IN_PARALLEL])
INSTALL = [r'-I "core\stamp.py" install']
RUN = [f'"{name}"' for name in PIPELINES]


def test_a_first_run_installs_and_runs_the_four_pipelines_in_order(project):
    result = project.run()
    assert result.returncode == 0, result.stdout + result.stderr
    assert project.arguments("py") == ['-3 -m venv --clear --upgrade-deps ".venv"']
    assert project.arguments("python") == []
    assert project.arguments("venv") == INSTALL + RUN


@pytest.mark.parametrize(
    ("begin", "expected"), [("0", []), ("10", INSTALL), ("11", INSTALL)]
)
def test_a_later_run_installs_only_what_the_stamp_asks_for(project, begin, expected):
    project.make_environment()
    assert project.run(STUB_BEGIN=begin).returncode == 0
    assert len(project.arguments("py")) == (begin == "11")
    begun = r'-I "core\stamp.py" begin'
    assert project.arguments("venv") == [begun, *expected, *RUN]


def test_arguments_reach_each_pipeline_unharmed(project):
    project.make_environment()
    given = ["--input", "my sales.csv", "--set", "", "*.csv", "a & b", "x^y | z", "(1)"]
    result = project.run(*given)
    assert result.returncode == 0, result.stdout + result.stderr
    said = '--input "my sales.csv" --set "" *.csv "a & b" "x^y | z" (1)'
    lines = project.log.read_text(encoding="utf-8").splitlines()
    pipelines = [line for line in lines if "-pipeline.py" in line]
    assert len(pipelines) == 4
    assert all(line.rstrip().endswith(said) for line in pipelines)


def test_pipelines_run_where_the_caller_is_so_relative_paths_hold(project):
    project.make_environment()
    project.run("--input", "sales.csv")
    folders = {call[1] for call in project.calls() if "-pipeline.py" in call[2]}
    assert folders == {windows_path(project.caller)}


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (["explain", "S 1", "--json"], '-P -m core explain "S 1" --json'),
        (["help"], "-P -m core --help"),
        (["--version"], "-P -m core --version"),
    ],
)
def test_a_verb_is_passed_on_as_it_is_with_its_exit_code(project, given, passed):
    project.make_environment()
    result = project.run(*given, STUB_FAIL="core", STUB_CODE="6")
    assert result.returncode == 6
    assert project.arguments("venv")[1:] == [passed]
    assert project.calls()[-1][1] == windows_path(project.caller)
    assert "step failed" not in result.stderr


def test_only_a_double_click_waits_for_a_key(project):
    project.make_environment()
    # Wine does not tell how it was started; Windows writes this for a double click.
    clicked = r'C:\Windows\system32\cmd.exe /c ""C:\a project\run.bat" "'
    assert "Press" in project.run(CMDCMDLINE=clicked).stdout
    fails = {"STUB_FAIL": PIPELINES[0], "STUB_CODE": "4"}  # which is over sooner
    failed = project.run(CMDCMDLINE=clicked, **fails)
    assert "Press" in failed.stdout
    assert failed.returncode == 4
    for line in (
        r'cmd.exe /c ""C:\a project\run.bat""',
        '"C:\\cmd.exe" ',
        "cmd /c run.bat",
    ):
        assert "Press" not in project.run(CMDCMDLINE=line, **fails).stdout


def test_the_test_command_installs_the_test_extra_and_passes_arguments_on(project):
    result = project.run("test", "-k", "noise or test", "-x")
    assert result.returncode == 0, result.stdout + result.stderr
    assert project.arguments("venv") == [
        r'-I "core\stamp.py" install test',
        f'{PYTEST} -k "noise or test" -x',
    ]
    assert project.calls()[-1][1] == windows_path(project.repo)
    assert project.run("test").returncode == 0
    assert project.arguments("venv")[-1] == PYTEST


@pytest.mark.parametrize(
    ("fails", "code", "said", "done"),
    [
        ("venv", 3, "python -m venv", 0),
        ("install", 2, "python -m pip install", 1),
    ],
)
def test_a_failing_installation_ends_the_run_with_its_exit_code(
    project, fails, code, said, done
):
    result = project.run(STUB_FAIL=fails, STUB_CODE=str(code))
    assert result.returncode == code
    assert f"run.bat: step failed: {said} (exit code {code})" in result.stderr
    assert project.arguments("venv") == INSTALL[:done]


@pytest.mark.parametrize("failing", range(4))
def test_the_first_failing_pipeline_ends_the_run_with_its_exit_code(project, failing):
    project.make_environment()
    name, code = PIPELINES[failing], 4 + failing
    result = project.run(STUB_FAIL=name, STUB_CODE=str(code))
    assert result.returncode == code
    assert f"run.bat: step failed: {name} (exit code {code})" in result.stderr
    assert project.arguments("venv")[1:] == RUN[: failing + 1]


def test_failing_tests_end_the_test_command_with_their_exit_code(project):
    project.make_environment()
    result = project.run("test", STUB_FAIL="pytest", STUB_CODE="5")
    assert result.returncode == 5
    assert "step failed: python -m pytest (exit code 5)" in result.stderr


# These stop at the making of the environment, which shows the interpreter chosen.
STOP = {"STUB_FAIL": "venv", "STUB_CODE": "9"}


def test_python_is_taken_where_the_launcher_is_old(project):
    assert project.run(STUB_OLD="py", **STOP).returncode == 9
    assert project.arguments("python") == ['-m venv --clear --upgrade-deps ".venv"']


def test_python_is_taken_where_the_launcher_is_missing(project):
    (project.bin / "py.bat").unlink()
    assert project.run(**STOP).returncode == 9
    assert project.arguments("python") == ['-m venv --clear --upgrade-deps ".venv"']


def test_the_variable_python_names_the_interpreter(project):
    project.add_python("my python")
    named = windows_path(project.bin / "my python.bat")
    assert project.run(PYTHON=named, **STOP).returncode == 9
    assert project.arguments("my python") == ['-m venv --clear --upgrade-deps ".venv"']


def test_an_old_python_is_named_and_nothing_is_made(project):
    (project.bin / "py.bat").unlink()
    result = project.run(STUB_OLD="python")
    assert result.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 is needed" in result.stderr
    assert "Python 3.9.1" in result.stderr
    assert not (project.repo / ".venv").exists()


def test_help_is_printed_at_once_without_an_environment(project):
    result = project.run("--help")
    assert result.returncode == 0
    assert "--input PATH" in result.stdout
    assert project.calls() == []
