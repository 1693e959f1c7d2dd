"""What the documents promise is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import core
from core.cli import app
from core.manifest import SCRIPTS
from core.reference import configuration_page, features_page

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
    for script in SCRIPTS.values():
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


def test_flags_of_the_readme_are_known_to_every_pipeline():
    runner = CliRunner()
    wide = {"COLUMNS": "200"}
    monthly = runner.invoke(app, ["refresh", "--help"], env=wide).output
    for verb in ("prepare", "train-autoencoder", "train-clusters", "infer", "run"):
        help_page = runner.invoke(app, [verb, "--help"], env=wide).output
        for flag in re.findall(r"(?<!-)(--[a-z][a-z-]+)", README):
            assert flag in help_page or flag == "--retrain", (verb, flag)
            assert flag in help_page or flag in monthly


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute `Modell`"):
        _ = core.Modell
