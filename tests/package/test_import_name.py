"""The name that users import, in a checkout and in a wheel."""

from __future__ import annotations

import re
import runpy
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest

import core.errors
import stable_segments
import stable_segments.errors
from stable_segments.segments import naming

REPOSITORY = Path(__file__).resolve().parents[2]


def test_both_names_are_the_same_modules():
    assert stable_segments is core
    assert stable_segments.errors is core.errors
    assert naming.__name__ == naming.__spec__.name == "core.segments.naming"
    with pytest.raises(ModuleNotFoundError, match=r"core\.no_such_module"):
        import_module("stable_segments.no_such_module")


@pytest.fixture(scope="module")
def renamed():
    """Return the function that renames the code of the wheel."""
    with patch("setuptools.setup"):
        return runpy.run_path(str(REPOSITORY / "setup.py"))["renamed"]


def test_the_wheel_imports_itself_and_never_core(renamed):
    modules = [path.stem for path in (REPOSITORY / "core").iterdir()]
    left = re.compile(r"^\s*(from|import) core\b|[\"']core\.[{a-z]")
    for path in (REPOSITORY / "core").rglob("*.py"):
        for line in renamed(path.read_text(encoding="utf-8"), modules).splitlines():
            assert not left.search(line), (path, line)


def test_what_only_happens_to_be_called_core_is_not_renamed(renamed):
    code = "core = linkage.core.tables\nnumpy.core.tables\nf(core=1, score.tables)\n"
    assert renamed(code, ["tables"]) == code
    assert renamed("import core\nfrom core import x\n", ["tables"]) == (
        "import stable_segments\nfrom stable_segments import x\n"
    )


def test_types_are_shipped():
    assert (REPOSITORY / "core" / "py.typed").is_file()
