"""The files in `deploy/` name what is there, and run without rights."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from core.cli import app

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
UNITS = sorted(path.name for path in DEPLOY.glob("segments-*"))
VERBS = typer.main.get_command(app).commands


def assert_known(arguments: list[str]) -> None:
    """Fail for a verb or an option that the command does not have."""
    verb, *rest = arguments
    known = {name for option in VERBS[verb].params for name in option.opts}
    assert {word for word in rest if word.startswith("--")} <= known


@pytest.fixture(scope="module")
def dockerfile():
    """Return the instructions of the Dockerfile as pairs."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line and line[0] != "#"]


def test_the_image_is_built_from_what_is_there_and_runs_without_rights(dockerfile):
    for name, rest in dockerfile:
        if name == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (REPOSITORY / source).exists(), source
    last_stage = dockerfile[[n for n, _ in dockerfile].index("FROM", 1) :]
    by_name = dict(last_stage)
    assert by_name["USER"] == "segments"
    assert "/health" in by_name["HEALTHCHECK"]
    assert json.loads(by_name["ENTRYPOINT"]) == ["segments"]
    assert_known(json.loads(by_name["CMD"]))


def test_the_database_is_closed_and_the_api_on_this_machine_only():
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    services = yaml.safe_load(text)["services"]
    assert services["api"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "ports" not in services["database"]
    assert (DEPLOY / services["api"]["build"]["context"]).resolve() == REPOSITORY
    assert (REPOSITORY / services["api"]["build"]["dockerfile"]).is_file()
    for line in re.findall(r"run --rm api (.*)", text):
        verb, *rest = shlex.split(line)
        if verb == "keys":
            assert rest[0] in VERBS["keys"].commands
        else:
            assert_known([verb, *rest])


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_read_and_runs_what_is_there(name):
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str
    unit.read(DEPLOY / name, encoding="utf-8")
    assert unit["Unit"]["Description"]
    if name.endswith(".timer"):
        assert name.replace(".timer", ".service") in UNITS
        assert unit["Timer"]["OnCalendar"]
        return
    service = unit["Service"]
    assert service["DynamicUser"] == service["NoNewPrivileges"] == "yes"
    program, *arguments = shlex.split(service["ExecStart"])
    assert program.endswith("/bin/segments")
    assert_known(arguments)


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    if (systemd := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd is not installed")
    for name in UNITS:
        text = (DEPLOY / name).read_text(encoding="utf-8")
        # The program is looked for; here another one stands where it would be.
        there = re.sub(r"(?<=^ExecStart=)\S+", sys.executable, text, flags=re.MULTILINE)
        (tmp_path / name).write_text(there, encoding="utf-8")
    units = [str(tmp_path / name) for name in UNITS]
    done = subprocess.run(
        [systemd, "verify", "--man=no", *units],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
