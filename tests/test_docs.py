"""What the documents promise is what the code does."""

from __future__ import annotations

import functools
import inspect
import pydoc
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import core
from core.cli import app
from core.cli.app import GROUPS, systems
from core.config import ChannelsConfig
from core.docs import configuration_page, features_page
from core.errors import SegmentsError
from core.resolve import resolve_config

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CI = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "page"),
    [("configuration.md", configuration_page()), ("features.md", features_page())],
)
def test_reference_pages_are_printed_from_the_code(name, page):
    """Renew with `./run.sh config --markdown` or `./run.sh features`."""
    assert (REPOSITORY / "docs" / name).read_text(encoding="utf-8") == page


def test_every_script_and_link_of_the_readme_exists():
    for verb in chain.from_iterable(system.commands.values() for system in systems()):
        assert f"./run.sh {verb}" in README or f"`{verb}`" in README
    for script in REPOSITORY.glob("*-pipeline.py"):
        assert script.name in README
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (REPOSITORY / link).is_file(), link


def test_python_example_of_the_readme_uses_names_that_exist():
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    names = re.search(r"from stable_segments import (.*)", block).group(1).split(", ")
    assert {"Config", "Model", "run_all"} == set(names)
    for name in core.__all__:
        assert getattr(core, name) is not None
    assert len(block.strip().splitlines()) <= 10


REFERENCE = re.findall(
    r"^::: (core\.\S+)$",
    (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
ERRORS = "core.errors"  # a whole module of them


def test_every_name_that_users_import_is_in_the_reference():
    """Those of the package, and those of what the documents and examples import."""
    places = ("README.md", "docs/*.md", "docs/*.ipynb", "examples/*.py")
    found = {getattr(core, name) for name in core.__all__}
    for path in chain.from_iterable(map(REPOSITORY.glob, places)):
        text = path.read_text(encoding="utf-8").replace('\\n"', "")
        imported = r"from stable_segments(\S*) import (?:\(([^)]+)\)|([\w, ]+))"
        for module, *names in re.findall(imported, text):
            for name in re.findall(r"\w+", "".join(names)):
                found.add(getattr(import_module(f"core{module}"), name))
    listed = {pydoc.locate(name) for name in REFERENCE}
    assert {one for one in found if one.__module__ != ERRORS} <= listed
    assert ERRORS in REFERENCE


@pytest.mark.parametrize("name", [name for name in REFERENCE if name != ERRORS])
def test_every_name_of_the_reference_has_an_example_that_is_run(name):
    """By doctest, or by CI as a part of one of the examples."""
    text = inspect.getdoc(pydoc.locate(name)).partition("\nExamples\n---")[2]
    if file := re.search(r"Of `(examples/\w+\.py)`", text):
        example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
        assert example in (REPOSITORY / file[1]).read_text(encoding="utf-8")
        run_by_ci = re.search("for example in (.*);", CI)[1].split()
        assert Path(file[1]).stem in run_by_ci
    else:
        assert ">>> " in text
        assert "+SKIP" not in text


@functools.cache
def help_of(*verb: str) -> str:
    """Return the help page of a verb, its options unbroken."""
    return CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200"}).output


def flags_in(text: str) -> set[str]:
    return set(re.findall(r"(?<!-)(--[a-z][a-z-]+)", text))


def test_flags_of_the_readme_are_known_to_every_pipeline():
    own = {"Every month": ["refresh"], "Customers on 13 axes": ["axes"]}
    own["Customers on 13 axes"] += ["keys create", "serve"]
    own["Any feature table"] = ["fit", "rfm"]
    own["Customers over several channels"] = ["channels"]
    own["Grocery baskets"] = ["baskets", "baskets score"]
    own["Segments in other programs"] = ["export"]
    own["The dashboard"] = ["dashboard"]
    own["What it cannot do"] = ["refresh"]
    pipelines = ("prepare", "train-autoencoder", "train-clusters", "infer", "run")
    for section in README.split("\n## "):
        verbs = own.get(section.partition("\n")[0])
        if verbs is None:
            for verb in pipelines:
                known = flags_in(help_of(verb)) | {"--output"}  # of `infer` alone
                assert flags_in(section) <= known, verb
        else:
            known = set.union(*(flags_in(help_of(*verb.split())) for verb in verbs))
            assert flags_in(section) <= known, verbs


def test_examples_of_configurations_for_channels_are_valid(tmp_path):
    page = (REPOSITORY / "docs" / "channels.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(channels:.*?)```", page, re.DOTALL)
    assert len(examples) >= 2
    for example in examples:
        (tmp_path / "channels.yaml").write_text(example, encoding="utf-8")
        assert resolve_config(tmp_path / "channels.yaml").channels != ChannelsConfig()


def test_only_inference_scores_into_a_file():
    verbs = ("prepare", "train-autoencoder", "train-clusters", "infer", "run")
    assert [v for v in verbs if "--output" in flags_in(help_of(v))] == ["infer"]


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute `Modell`"):
        _ = core.Modell


def errors_under(kind: type[SegmentsError]) -> Iterator[type[SegmentsError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from errors_under(below)


def test_every_exit_code_is_in_the_one_table():
    table = README.split("## Exit codes")[1].split("## ")[0]
    cells = " ".join(re.findall(r"^\|(.*?)\|", table, re.MULTILINE))
    told = {int(code) for code in re.findall(r"\d+", cells)}
    assert told == {0, 130, 143} | {e.exit_code for e in errors_under(SegmentsError)}


def test_every_verb_has_a_group_and_an_example_that_names_it():
    command = typer.main.get_command(app)
    assert set(command.commands) == set(chain.from_iterable(GROUPS.values()))
    for verb in command.commands:
        assert f"Example: ./run.sh {verb}" in help_of(verb)
    assert all(title in help_of() for title in GROUPS)


def test_commands_are_named_one_way_everywhere():
    """As what runs in a checkout without an environment being active."""
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]
    code = (REPOSITORY / "core").rglob("*")
    sources = [p for p in code if p.suffix in {".py", ".j2", ".yaml"}]
    other = re.compile(
        r"python -m core|`segments [a-z]|^segments [a-z]+ -|\.venv.bin.python"
        r"|python [a-z-]+-pipeline",
        re.MULTILINE,
    )
    for path in (*pages, *sources, *REPOSITORY.glob("*.py")):
        assert other.findall(path.read_text(encoding="utf-8")) == [], path


def test_the_version_is_printed():
    result = CliRunner().invoke(app, ["--version"])
    assert result.output.split() == ["stable-segments", version("stable-segments")]


BARE = """import runpy, sys
sys.path.insert(0, sys.argv[1])
runpy.run_path(sys.argv[2], run_name="__main__")"""


@pytest.mark.parametrize("script", sorted(REPOSITORY.glob("*-pipeline.py")), ids=str)
def test_a_script_without_its_dependencies_says_what_to_run(script):
    """With a Python that has the standard library only."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", BARE, str(REPOSITORY), str(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "is not installed in this Python" in done.stderr
    assert "Run `./run.sh`" in done.stderr
    assert len(done.stderr.splitlines()) == 1
