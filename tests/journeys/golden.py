"""What the product computes, recorded and compared, so that no change goes unseen.

Only public commands are run (``python -m core ...``), so code of any layout can be
recorded. From the root of the repository::

    python tests/journeys/golden.py record OLD --checkout ../old  # once
    python tests/journeys/golden.py record NEW                    # after the change
    python tests/journeys/golden.py compare OLD NEW               # exits with 1 if
                                                                  # anything differs

``--only quick`` is the short subset for every push; ``--only NAME ...`` (globs too)
records some cases, with those they start from, into a folder that may hold others;
``months-judged``, ``-certified`` and ``-compared`` take minutes and are run by name
only.
``record NEW --models OLD`` also goes on from the models in OLD: what the recorded code
makes of them has to be what the old code made. ``list`` names the cases.

A recording holds, per case, the artifacts as written, ``told.txt`` (exit code and
output of each command) and in ``golden.json`` the SHA-256 of each item's content. What
is no content is left out: see ``NO_CONTENT``, ``CLOCKS`` and ``NOISE``. Pages and
pictures (``PAGES``) are recorded, and compared with ``--pages`` only. ``compare
--ignore GLOB`` passes over items that were changed on purpose, such as
``'*/told.txt'``. The real data and the input cases are looked for in ``../shared``;
what is absent is skipped, and said.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import zip_longest
from pathlib import Path
from typing import Any

import polars as pl
from safetensors import safe_open

REPOSITORY = Path(__file__).resolve().parents[2]
RECORD = "golden.json"
OLD_MODELS = "@old"
Items = dict[str, str]  # name of an item: digest of its content

# Fields of JSON files that are no content: paths as flattened below, `*` any part.
NO_CONTENT = (
    "manifest.json: files.*.sha256",  # of bytes: times, versions of libraries
    "manifest.json: files.*.size",
    "manifest.json: stages.*.finished_at",
    "manifest.json: stages.*.seconds",
    "manifest.json: stages.*.facts.seconds",
    "manifest.json: stages.*.facts.seconds.*",
    "manifest.json: stages.*.versions.*",
    "manifest.json: stages.inference.facts.certificate.made_at",
    "manifest.json: stages.inference.facts.certificate.*seconds*",
    "certificate.json: made_at",
    "certificate.json: *seconds*",
    "manifest.json: stages.axes.facts.lineage",  # see LAST_BITS
    "axes.json: lineage",
)
# Times in what commands tell, and on pages.
CLOCKS = (
    (re.compile(r"^\d\d:\d\d:\d\d  ", re.M), ""),
    (re.compile(r"^Done in [\d.]+ s\n", re.M), ""),
    (re.compile(r"\d{4}-\d\d-\d\d(?= │$)", re.M), "TODAY"),  # `versions`
    (
        re.compile(r"about .* at most \(the training took \d+ s\)"),
        "SECONDS",
    ),  # `certify`
    # The last column of `compare`.
    (re.compile(r"^(│ (?:behaviour|baseline) .*) +[\d.]+ │$", re.M), r"\1 SECONDS"),
)
PAGE_CLOCKS = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d UTC|^\| Made at \|.*|\.staging-\w+"
    r'|(?<=<th scope="row">)'
    r"(prepare|autoencoder|clustering|inference|refresh)</th><td>[\d.]+"
    r'|(?<=<th scope="row">)((behaviour|baseline) .*">)[\d.]+(?=</td></tr>$)',
    re.M,
)
# Columns of CSV files.
SECONDS = {"comparison-spaces.csv": "seconds"}
# Sums over a customer's orders are taken in the order in which threads come by, so the
# last bit of some features differs from run to run, and the id of a new lineage, which
# is a digest of the model. So much of a number may differ in what the axes write.
LAST_BITS = "*/artifacts/axes/*"
LAST_BIT = 1e-11
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[-+]?\d+)?")
# Lines that libraries write to standard error.
NOISE = re.compile(
    r"^(WARNING: All log messages before absl|[IWE]0000 |20\S+ \S+: [IWE] )"
    r"|.*resource_tracker"
)
PAGES = ("*.html", "*.png", "*.md")
# The scaler's pickle names its module; its arrays are in encoder-state.safetensors. So
# are the weights of the Keras file, a zip with times.
SKIPPED = ("*.lock", "feature-scaler.pkl", "*.keras")


# --- the cases ------------------------------------------------------------------------


@dataclass(frozen=True)
class Paths:
    """Where a recording finds what it needs, all absolute."""

    folder: Path
    checkout: Path
    shared: Path

    def masked(self, text: str) -> str:
        """Return a text without what differs from one recording to the next."""
        for name in ("folder", "shared", "checkout"):
            text = text.replace(str(getattr(self, name)), name.upper())
        return text


@dataclass(frozen=True)
class Case:
    """Commands run one after the other in a folder of their own.

    ``start`` is the case whose artifacts are copied first, ``after`` one that has to be
    there already, ``needs`` what has to be in the folder of shared data, and ``inputs``
    makes files in ``../inputs``. Commands name files relative to the case's folder, so
    that what they write is the same in every recording. Slow cases are run by name.
    """

    name: str
    commands: tuple[str, ...]
    start: str | None = None
    after: str | None = None
    needs: str | None = None
    inputs: Callable[[Paths], None] | None = None
    is_quick: bool = False
    is_slow: bool = False

    @property
    def before(self) -> str | None:
        return self.start or self.after


def split_sample(paths: Paths) -> None:
    """Cut the sample's rows into those to learn from and the months after."""
    rows = pl.read_parquet(paths.folder / "rows" / "artifacts" / "sales.parquet")
    split_rows(rows, paths.folder / "inputs" / "rows", ("2024-03", "2024-04"))


def split_iowa(paths: Paths) -> None:
    rows = pl.read_parquet(paths.shared / "data" / "iowa_dev" / "monthly.parquet")
    split_rows(rows, paths.folder / "inputs" / "iowa", ("2021-11", "2021-12"))


def split_rows(rows: pl.DataFrame, folder: Path, months: tuple[str, ...]) -> None:
    """Write the rows before the first of some months, and of each of them."""
    label = pl.format("{}-{}", "year", pl.col("month").cast(pl.String).str.zfill(2))
    folder.mkdir(parents=True, exist_ok=True)
    rows.filter(label < months[0]).write_parquet(folder / "before.parquet")
    rows.filter(label <= months[-1]).write_parquet(folder / "all.parquet")
    for month in months:
        rows.filter(label == month).write_parquet(folder / f"{month}.parquet")


def split_orders(paths: Paths) -> None:
    """Write the wholesaler's orders and items of all months but the last three."""
    folder = paths.folder / "inputs" / "wholesale"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("orders", "items"):
        rows = pl.read_parquet(
            paths.shared / "data" / "online_retail" / f"{name}.parquet"
        )
        early = rows.filter(pl.col("order_ts") < pl.datetime(2011, 9, 1))
        early.write_parquet(folder / f"{name}.parquet")


SHORT = "--set autoencoder.epochs=8"
YEAR = (
    "--set eligibility.min_tenure_years=0.5 "
    "--set eligibility.min_avg_active_months_per_year=3"
)
TEN = "--set clustering.min_cluster_size=10"
RAW = (
    "--column shop_id=CustomerID --column product_id=StockCode "
    "--column date=InvoiceDate --column sales_qty=Quantity"
)
ORDERS = (
    "--order-column order_date=order_ts --order-column total_price=amount "
    "--order-column source=channel --item-column price=unit_price"
)
DATA = "../shared/data"

SAMPLES = [
    Case(
        "rows",
        (
            "prepare --seed 11 --set sample.n_shops=320 --set sample.n_months=30 "
            "--set sample.difficulty=easy",
        ),
        is_quick=True,
    ),
    Case(
        "months",
        (
            "run --input ../inputs/rows/before.parquet "
            f"--set features.history_months=24 {SHORT}",
        ),
        after="rows",
        inputs=split_sample,
        is_quick=True,
    ),
    Case(
        "months-infer",
        ("infer --input ../inputs/rows/all.parquet",),
        start="months",
        is_quick=True,
    ),
    Case(
        "months-kept",
        ("refresh --input ../inputs/rows/2024-03.parquet --retrain never",),
        start="months",
        is_quick=True,
    ),
    Case(
        "months-refit",
        (
            "refresh --input ../inputs/rows/2024-04.parquet --retrain always "
            "--set refresh.gate_refits=2",
        ),
        start="months-kept",
        is_quick=True,
    ),
    Case(
        "months-told",
        (
            "verify",
            "versions",
            "explain S000009 --json",
            "explain S000010",
            "contract draft --owner Ana --expires 2030-01-01 --output contract.yaml",
            "contract check contract.yaml --today 2027-01-01",
            "rename 1 Seaside",
            "rollback",
        ),
        start="months-refit",
    ),
    Case(
        "months-judged",
        (
            "profile",
            "scorecard --permutations 19",
            "stability --refits 2 --workers 0",
        ),
        start="months",
        is_slow=True,
    ),
    Case(
        "months-certified",
        ("certify --nulls 19 --refits 2 --seed-refits 2",),
        start="months",
        is_slow=True,
    ),
    Case(
        "months-compared",
        ("compare --refits 2 --nulls 19 --shops 200",),
        start="months",
        is_slow=True,
    ),
    Case("sample", ("run",)),
    Case(
        "sample-baseline",
        (
            "run --seed 3 --features baseline --set sample.n_shops=400 "
            "--set scaling.method=robust --set autoencoder.architecture=reference",
        ),
    ),
    Case(
        "sample-none",
        (
            "run --seed 5 --set sample.n_shops=400 --set sample.structure=none "
            f"--set autoencoder.architecture=denoising {SHORT}",
        ),
    ),
    Case(
        "sample-duckdb",
        ("prepare --set features.engine=duckdb --set sample.n_shops=1000",),
    ),
    Case(
        "axes-small",
        ("axes --no-store --set axes.sample_customers=600",),
        is_quick=True,
    ),
    Case("axes-sample", ("axes --no-store",)),
    Case(
        "axes-cut",
        ("axes --no-store --set axes.sample_customers=900 --set axes.min_segments=3",),
    ),
]

REAL = [
    Case(
        "iowa-before",
        (f"run --input ../inputs/iowa/before.parquet {TEN} {SHORT}",),
        needs="data/iowa_dev",
        inputs=split_iowa,
    ),
    Case(
        "iowa-kept",
        ("refresh --input ../inputs/iowa/2021-11.parquet --retrain never",),
        start="iowa-before",
    ),
    Case(
        "iowa-refit",
        ("refresh --input ../inputs/iowa/2021-12.parquet --retrain always",),
        start="iowa-kept",
    ),
    Case(
        "wholesale-months",
        (f"prepare --input {DATA}/online_retail/monthly.parquet {YEAR}",),
    ),
    Case(
        "wholesale-lines",
        (
            f"run --input {DATA}/online_retail/raw_strings.parquet {RAW} {YEAR} "
            f"{TEN} {SHORT}",
        ),
    ),
    Case(
        "households",
        (f"run --input {DATA}/complete_journey_sample/monthly.parquet {TEN} {SHORT}",),
    ),
    Case(
        "axes-households",
        (
            f"axes --no-store --orders {DATA}/complete_journey_sample/orders.parquet "
            f"--items {DATA}/complete_journey_sample/items.parquet {ORDERS} "
            "--order-column discount_amount=discount",
        ),
    ),
    Case(
        "axes-wholesale",
        (
            "axes --no-store --orders ../inputs/wholesale/orders.parquet "
            f"--items ../inputs/wholesale/items.parquet {ORDERS}",
        ),
        needs="data/online_retail",
        inputs=split_orders,
    ),
    Case(
        "axes-wholesale-placed",
        (
            f"axes --no-store --orders {DATA}/online_retail/orders.parquet "
            f"--items {DATA}/online_retail/items.parquet {ORDERS} --retrain never",
        ),
        start="axes-wholesale",
    ),
    Case(
        "axes-wholesale-refit",
        (
            f"axes --no-store --orders {DATA}/online_retail/orders.parquet "
            f"--items {DATA}/online_retail/items.parquet {ORDERS}",
        ),
        start="axes-wholesale",
    ),
]

INPUTS = (
    "excel_dates_mixed_with_text.xlsx",
    "excel_serial_dates.csv",
    "hive_encoded_keys",
    "html_named.xls",
    "iso_weeks.csv",
    "merged_shop_cells.xlsx",
    "month_names.csv",
    "months_as_columns.csv",
    "no_product_column.csv",
    "scientific_ids_products.csv",
    "scientific_ids_products_true.csv",
    "subtotal_rows.csv",
    "thousands_point_decimal_comma.csv",
    "title_rows_above_header.csv",
    "two_sheets_by_year.xlsx",
    "unquoted_decimal_comma.csv",
    "year_dot_month_float.csv",
)
READ = [
    Case(f"input-{name.split('.')[0]}", (f"prepare --input ../shared/cases/{name}",))
    for name in INPUTS
] + [
    Case(
        "input-guest_id",
        (
            "axes --no-store --orders ../shared/cases/guest_id_orders.csv "
            "--items ../shared/cases/guest_id_items.csv",
        ),
    )
]
CASES = {case.name: case for case in [*SAMPLES, *REAL, *READ]}


def needed(case: Case) -> list[str]:
    """List what a case reads in the folder of shared data."""
    named = [w for c in case.commands for w in c.split() if w.startswith("../shared/")]
    found = [word.removeprefix("../shared/") for word in named]
    return found if case.needs is None else [*found, case.needs]


def chosen(names: list[str]) -> list[Case]:
    """Return the cases of some names or globs, each after those that it follows."""
    wanted = {
        case.name
        for case in CASES.values()
        if (not names and not case.is_slow)
        or any(fnmatch(case.name, n) or (n == "quick" and case.is_quick) for n in names)
    }
    unknown = [n for n in names if n != "quick" and not any_match(n)]
    if unknown:
        sys.exit(f"No such case: {', '.join(unknown)}. `list` names them all.")
    while missing := {CASES[n].before for n in wanted} - wanted - {None}:
        wanted |= {name for name in missing if name is not None}
    return [case for case in CASES.values() if case.name in wanted]


def any_match(name: str) -> bool:
    return any(fnmatch(case, name) for case in CASES)


# --- recording ------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A case to run; with ``models`` it starts from the models of that recording."""

    case: Case
    models: Path | None = None

    @property
    def name(self) -> str:
        return self.case.name + ("" if self.models is None else OLD_MODELS)


def record(paths: Paths, tasks: list[Task], n_jobs: int) -> Iterator[tuple[str, Items]]:
    """Run tasks, ``n_jobs`` side by side; yield what each has left."""
    waiting, ended = list(tasks), set[str]()
    running: dict[Future[Items], Task] = {}
    with ThreadPoolExecutor(n_jobs) as pool:
        while waiting or running:
            ready = [t for t in waiting if t.case.before in {None, *ended}]
            for task in ready[: n_jobs - len(running)]:
                waiting.remove(task)
                running[pool.submit(run_task, task, paths)] = task
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                name = running.pop(future).name
                ended.add(name)
                yield name, future.result()


def run_task(task: Task, paths: Paths) -> Items:
    """Run a case's commands in a fresh folder; return the digest of each item left."""
    started = time.monotonic()
    case, work = task.case, paths.folder / task.name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    start = (task.models or paths.folder) / f"{case.start}" / "artifacts"
    if start.exists():
        shutil.copytree(start, work / "artifacts")
    if case.inputs is not None:
        case.inputs(paths)
    told = "\n".join(run_command(command, work, paths) for command in case.commands)
    (work / "told.txt").write_text(told, encoding="utf-8")
    print(f"{task.name}: {time.monotonic() - started:.0f} s", flush=True)
    return {item: digest(lines(work / item)) for item in items(work)}


def tasks_of(cases: list[Case], paths: Paths, models: Path | None) -> list[Task]:
    """Return the cases that can be run, and those to run from other models as well."""
    tasks: list[Task] = []
    absent: set[str] = set()
    for case in cases:
        missing = [p for p in needed(case) if not (paths.shared / p).exists()]
        if missing or case.before in absent:
            absent.add(case.name)
            print(f"{case.name}: skipped, no {(missing or [case.before])[0]}")
            continue
        tasks.append(Task(case))
        if models is not None and (models / f"{case.start}" / "artifacts").exists():
            tasks.append(Task(case, models))
    return tasks


def run_command(command: str, work: Path, paths: Paths) -> str:
    """Run one command of the checkout; return its exit code and what it told."""
    done = subprocess.run(
        [sys.executable, "-m", "core", *command.split()],
        cwd=work,
        env=environment(paths.checkout),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    errors = [line for line in done.stderr.splitlines() if not NOISE.match(line)]
    told = f"$ {command}\nexit code {done.returncode}\n{done.stdout}---\n"
    told = paths.masked(told + "".join(f"{line}\n" for line in errors))
    for pattern, mask in CLOCKS:
        told = pattern.sub(mask, told)
    return told


def environment(checkout: Path) -> dict[str, str]:
    """Return the environment of a command: the checkout's code, nobody's options."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SEGMENTS_") and name != "DATABASE_URL"
    }
    return kept | {
        "PYTHONPATH": str(checkout),
        "PYTHONIOENCODING": "utf-8",
        "MPLBACKEND": "Agg",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }


def items(work: Path) -> list[str]:
    """List what a case left, by paths relative to its folder."""
    files = (path for path in work.rglob("*") if path.is_file())
    names = sorted(path.relative_to(work).as_posix() for path in files)
    return [name for name in names if not matches(name, SKIPPED)]


def matches(name: str, patterns: Iterable[str]) -> bool:
    base = name.rsplit("/", 1)[-1]
    return any(fnmatch(name, p) or fnmatch(base, p) for p in patterns)


def digest(content: Iterable[str]) -> str:
    """Return the SHA-256 of lines."""
    found = hashlib.sha256()
    for line in content:
        found.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return found.hexdigest()


# --- what is content ------------------------------------------------------------------


def lines(path: Path) -> list[str]:
    """Return a file's content as lines, whatever its bytes are."""
    reader = READERS.get(path.suffix, bytes_lines)
    return reader(path)


def text_lines(path: Path) -> list[str]:
    """Return the lines of a text, byte for byte."""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    return text.split("\n")


def csv_lines(path: Path) -> list[str]:
    """Return the lines of a CSV file, byte for byte but for a column of `SECONDS`."""
    found = text_lines(path)
    if path.name not in SECONDS:
        return found
    rows = list(csv.reader(found))
    place = rows[0].index(SECONDS[path.name])
    return [",".join(row[:place] + row[place + 1 :]) for row in rows]


def page_lines(path: Path) -> list[str]:
    """Return the lines of a page, without when it was made."""
    return PAGE_CLOCKS.sub("TIME", path.read_text(encoding="utf-8")).split("\n")


def bytes_lines(path: Path) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest()]


def json_lines(path: Path) -> list[str]:
    """Return `place = value` lines, without the fields that are no content."""
    content = json.loads(path.read_text(encoding="utf-8"))
    left_out = [
        re.compile(re.escape(place).replace(r"\*", "[^/]*"))
        for file, place in (rule.split(": ") for rule in NO_CONTENT)
        if file == path.name
    ]
    return [
        f"{place} = {value}"
        for place, value in flattened(content)
        if not any(rule.fullmatch(place) for rule in left_out)
    ]


def flattened(content: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield place and value of all leaves, in the order of the file."""
    if isinstance(content, dict) and content:
        for key, value in content.items():
            yield from flattened(value, f"{place}.{key}" if place else key)
    elif isinstance(content, list) and content:
        for number, value in enumerate(content):
            yield from flattened(value, f"{place}[{number}]")
    else:
        yield place, json.dumps(content, ensure_ascii=False)


def parquet_lines(path: Path) -> list[str]:
    """Return types, then a table's rows as CSV, in which floats are exact."""
    frame = pl.read_parquet(path)
    types = [f"{name}: {dtype}" for name, dtype in frame.schema.items()]
    while nested := [n for n, t in frame.schema.items() if isinstance(t, pl.Struct)]:
        frame = frame.unnest(nested, separator=".")
    lists = [pl.col(n) for n, t in frame.schema.items() if t.is_nested()]
    for column in lists:
        shown = column.map_elements(lambda x: str(x.to_list()), return_dtype=pl.String)
        frame = frame.with_columns(shown)
    return [" | ".join(types), *frame.write_csv(null_value="<null>").split("\n")]


def tensor_lines(path: Path) -> list[str]:
    """Return the description and the values of all arrays, a row per line."""
    found = []
    with safe_open(path, "numpy") as file:
        for key, value in sorted((file.metadata() or {}).items()):
            found += [f"{key}: {place} = {x}" for place, x in flattened(parsed(value))]
        for name in sorted(file.keys()):
            array = file.get_tensor(name)
            found.append(f"{name}: {array.dtype} {array.shape}")
            rows = array.tolist() if array.ndim else [array.item()]
            found += [f"{name}[{n}] = {row}" for n, row in enumerate(rows)]
    return found


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def hdbscan_lines(path: Path) -> list[str]:
    """Return labels and strengths of the clusterer that is kept for notebooks."""
    clusterer = pickle.loads(path.read_bytes())
    pairs = zip(clusterer.labels_, clusterer.probabilities_, strict=True)
    return ["label,strength", *(f"{label},{float(s)!r}" for label, s in pairs)]


READERS: dict[str, Callable[[Path], list[str]]] = {
    ".csv": csv_lines,
    ".html": page_lines,
    ".json": json_lines,
    ".md": page_lines,
    ".parquet": parquet_lines,
    ".pkl": hdbscan_lines,
    ".safetensors": tensor_lines,
    ".txt": text_lines,
    ".yaml": text_lines,
}


# --- comparing ------------------------------------------------------------------------


def compare(old: Path, new: Path, passed_over: list[str]) -> list[str]:
    """Tell where a recording differs from an older one, in the cases that it has.

    A digest that differs is only where to look: the content of both is read.
    """
    before, after = read_record(old), read_record(new)
    told = []
    for name, found in after.items():
        base = name.removesuffix(OLD_MODELS)
        if base not in before:
            told.append(f"{name}: not recorded in {old}")
            continue
        if commands_of(old / base) != commands_of(new / name):
            told.append(f"{name}: recorded with other commands in {old}")
            continue
        for item in sorted(before[base].keys() | found.keys()):
            if matches(f"{name}/{item}", passed_over):
                continue
            if before[base].get(item) != found.get(item):
                difference = first_difference(old / base / item, new / name / item)
                told += [] if difference is None else [f"{name}/{item}: {difference}"]
    return told


def commands_of(folder: Path) -> list[str]:
    return [line for line in text_lines(folder / "told.txt") if line.startswith("$ ")]


def read_record(folder: Path) -> dict[str, Items]:
    file = folder / RECORD
    if not file.exists():
        sys.exit(f"{folder} holds no recording ({RECORD}).")
    return json.loads(file.read_text(encoding="utf-8"))["cases"]


def first_difference(old: Path, new: Path) -> str | None:
    """Return the first difference between the contents of two files, if any."""
    if not (old.exists() and new.exists()):
        return f"only in {old if old.exists() else new}"
    was, now = lines(old), lines(new)
    is_close = fnmatch(old.as_posix(), LAST_BITS)
    for number, (x, y) in enumerate(zip_longest(was, now), 1):
        if x != y and not (is_close and is_last_bit(x, y)):
            where = f"line {number} of {len(was):,} and {len(now):,}"
            header = was[1 if old.suffix == ".parquet" else 0]
            is_table = number > 1 and old.suffix in {".csv", ".parquet"}
            return f"{where}: {field_of(header, x, y) if is_table else whole(x, y)}"
    return None


def is_last_bit(x: str | None, y: str | None) -> bool:
    """Tell whether two lines differ by no more than `LAST_BIT` in their numbers."""
    if x is None or y is None or NUMBER.sub("#", x) != NUMBER.sub("#", y):
        return False
    pairs = zip(NUMBER.findall(x), NUMBER.findall(y), strict=True)
    return all(
        math.isclose(float(a), float(b), rel_tol=LAST_BIT, abs_tol=LAST_BIT)
        for a, b in pairs
    )


def field_of(header: str, x: str | None, y: str | None) -> str:
    """Return the first differing field of two rows, by its column and first field."""
    if x is None or y is None:
        return whole(x, y)
    names, *rows = (next(csv.reader(io.StringIO(row)), []) for row in (header, x, y))
    for place, (a, b) in enumerate(zip_longest(*rows)):
        if a != b:
            name = names[place] if place < len(names) else f"field {place + 1}"
            return f"{name} of {rows[0][0]!r}: {whole(a, b)}"
    return whole(x, y)


def whole(x: str | None, y: str | None) -> str:
    return f"{short(x)} -> {short(y)}"


def short(text: str | None) -> str:
    return (
        "nothing" if text is None else text if len(text) <= 200 else text[:200] + "..."
    )


# --- the command line -----------------------------------------------------------------


def main() -> None:
    """Record, compare or list."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("record", help="run cases and keep what they leave")
    verb.add_argument("folder", type=Path)
    verb.add_argument("--checkout", type=Path, default=REPOSITORY)
    verb.add_argument("--only", nargs="+", default=[], metavar="NAME")
    verb.add_argument("--models", type=Path, help="a recording to go on from as well")
    verb.add_argument("--shared", type=Path, default=REPOSITORY.parent / "shared")
    verb.add_argument("--jobs", type=int, default=2, help="commands side by side")
    verb = verbs.add_parser("compare", help="tell what differs; 1 if anything does")
    verb.add_argument("old", type=Path)
    verb.add_argument("new", type=Path)
    verb.add_argument("--pages", action="store_true", help="pages and pictures as well")
    verb.add_argument("--ignore", nargs="+", default=[], metavar="GLOB")
    verbs.add_parser("list", help="name the cases")
    options = parser.parse_args()
    {"record": do_record, "compare": do_compare, "list": do_list}[options.verb](options)


def do_record(options: argparse.Namespace) -> None:
    paths = Paths(
        options.folder.resolve(), options.checkout.resolve(), options.shared.resolve()
    )
    check_imports(paths.checkout)
    paths.folder.mkdir(parents=True, exist_ok=True)
    link = paths.folder / "shared"
    if not link.exists() and paths.shared.exists():
        link.symlink_to(paths.shared, target_is_directory=True)
    models = None if options.models is None else options.models.resolve()
    tasks = tasks_of(chosen(options.only), paths, models)
    file = paths.folder / RECORD
    cases = read_record(paths.folder) if file.exists() else {}
    started = time.monotonic()
    for name, found in record(paths, tasks, options.jobs):
        cases[name] = found
        text = json.dumps({"cases": cases}, indent=1, sort_keys=True)
        file.write_text(text + "\n", encoding="utf-8")
    print(f"{len(tasks)} cases in {time.monotonic() - started:.0f} s: {file}")


def check_imports(checkout: Path) -> None:
    """Stop if another ``core`` than the checkout's would be recorded."""
    done = subprocess.run(
        [sys.executable, "-c", "import core; print(core.__file__)"],
        cwd=checkout,
        env=environment(checkout),
        capture_output=True,
        text=True,
        check=True,
    )
    if not Path(done.stdout.strip()).resolve().is_relative_to(checkout):
        sys.exit(f"{done.stdout.strip()} is imported, not the code in {checkout}.")


def do_compare(options: argparse.Namespace) -> None:
    passed_over = [*options.ignore, *([] if options.pages else PAGES)]
    told = compare(options.old, options.new, passed_over)
    print("\n".join(told) or f"{len(read_record(options.new))} cases are equal.")
    sys.exit(1 if told else 0)


def do_list(_: argparse.Namespace) -> None:
    for case in CASES.values():
        print(f"{case.name}{' (quick)' if case.is_quick else ''}: ", end="")
        print("; ".join(case.commands))


if __name__ == "__main__":
    main()
