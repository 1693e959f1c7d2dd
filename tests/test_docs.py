"""What the documents promise is what the code does."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import pytest
from typer.testing import CliRunner

import core
from core.cli import app
from core.cli.app import systems
from core.docs import configuration_page, features_page

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "page"),
    [("configuration.md", configuration_page()), ("features.md", features_page())],
)
def test_reference_pages_are_printed_from_the_code(name, page):
    """Renew with `segments config --markdown` or `segments features`."""
    assert (REPOSITORY / "docs" / name).read_text(encoding="utf-8") == page


def test_every_script_and_link_of_the_readme_exists():
    commands = [system.commands.values() for system in systems()]
    for script in chain.from_iterable(commands):
        assert script in README
        assert (REPOSITORY / script).is_file() or script.startswith("-m core ")
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (REPOSITORY / link).is_file(), link


def test_python_example_of_the_readme_uses_names_that_exist():
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    names = re.search(r"from core import (.*)", block).group(1).split(", ")
    assert {"Config", "Model", "run_all"} == set(names)
    for name in core.__all__:
        assert getattr(core, name) is not None
    assert len(block.strip().splitlines()) <= 10


def help_of(*verb: str) -> str:
    """Return the help page of a verb, its options unbroken."""
    return CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200"}).output


def flags_in(text: str) -> set[str]:
    return set(re.findall(r"(?<!-)(--[a-z][a-z-]+)", text))


def test_flags_of_the_readme_are_known_to_every_pipeline():
    own = {"Every month": ["refresh"], "Customers on 13 axes": ["axes"]}
    own["Customers on 13 axes"] += ["keys create", "serve"]
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


def test_only_inference_scores_into_a_file():
    verbs = ("prepare", "train-autoencoder", "train-clusters", "infer", "run")
    assert [v for v in verbs if "--output" in flags_in(help_of(v))] == ["infer"]


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute `Modell`"):
        _ = core.Modell
