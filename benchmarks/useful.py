"""How much segments and states say of the next six months, beside plain methods.

::

    python benchmarks/useful.py                           # ../shared/data, generators
    python benchmarks/useful.py --data DIR                # the same data sets elsewhere
    python benchmarks/useful.py --sales NAME=FILE[,FILE]  # your own sales, no others
    python benchmarks/useful.py --only iowa --cuts        # one data set, cut by cut too

For every cut, the sales up to it are written to a file, and the four pipelines learn
from that file as a user would run them. The six months after it then judge
``cluster_predictions.csv``: the increment of R2 beyond deciles of size, for the growth
over the same six months a year before, for the share of months with sales, and for
growth where it is known, too, how usual the year before was. Cuts and
populations follow from the length of the data (`useful_judges`), never from what comes
out. What a version of ``core`` has learnt is kept in the work folder, and not learnt
again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from useful_judges import (
    OUTCOMES,
    YEAR,
    Cut,
    Errors,
    Judge,
    Market,
    increments,
    plain_labels,
    resampled,
)

from core import Config, run_all
from core.retailers.sample import generate_sales

REPOSITORY = Path(__file__).resolve().parents[1]
WORK = REPOSITORY / "build" / "benchmarks" / "useful"
REAL = {
    "iowa": ("iowa_dev/monthly.parquet", "iowa_dev/more_stores.parquet"),
    "online-retail": ("online_retail/monthly.parquet",),
    "complete-journey": ("complete_journey_sample/monthly.parquet",),
}
GENERATED = {
    f"built-in-{family}": {"family": family, "n_shops": 1500}
    for family in ("fmcg", "trade")
}
SEED = 701
HALF_A_YEAR = {"min_tenure_years": 0.5, "min_avg_active_months_per_year": 3}
N_SHUFFLES = 5
POPULATIONS = {
    "all": "all eligible shops",
    "recent": "shops that sold in both last months",
}
SEGMENTS, LEAVES, STATES, BOTH = (
    f"ours: {name}" for name in ("segments", "leaves", "states", "leaves and states")
)
BOOSTED = "gradient boosting"
PLAIN = ("KMeans", "deciles", "months")
PREDICTIONS, PUBLISHED = "cluster_predictions.csv", "segments.json"


def read_sales(paths: list[Path]) -> pl.DataFrame:
    """Return the rows of all files, months numbered as year x 12 + month - 1."""
    number = pl.col("year").cast(pl.Int32) * YEAR + pl.col("month").cast(pl.Int32) - 1
    columns = [
        pl.col("shop_id", "product_id").cast(pl.String),
        pl.col("year", "month").cast(pl.Int32),
        pl.col("sales_qty").cast(pl.Float64),
        number.alias("t"),
    ]
    return pl.concat([pl.read_parquet(path).select(columns) for path in paths])


def generated_sales(sample: dict[str, Any]) -> pl.DataFrame:
    """Return rows of the built-in generator."""
    config = Config.model_validate({"sample": sample, "seed": SEED})
    rows = generate_sales(config.sample, SEED).rows
    number = pl.col("year") * YEAR + pl.col("month") - 1
    return rows.with_columns(number.cast(pl.Int32).alias("t"))


def sources(chosen: argparse.Namespace) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield name and rows of what is to be judged; say what is not there."""
    named = dict(text.split("=", 1) for text in chosen.sales)
    files = {
        name: [Path(one) for one in text.split(",")] for name, text in named.items()
    }
    if not files:
        files = {name: [chosen.data / one for one in REAL[name]] for name in REAL}
    for name, paths in files.items():
        if chosen.only and chosen.only not in name:
            continue
        missing = [str(path) for path in paths if not path.is_file()]
        if missing:
            print(f"{name}: not measured, since there is no {', '.join(missing)}.\n")
        else:
            yield name, read_sales(paths)
    for name, sample in {} if chosen.sales else GENERATED.items():
        if chosen.only in name:
            yield name, generated_sales(sample)


def digest_of_core() -> str:
    """Return what tells one version of the product from another."""
    found = hashlib.sha256()
    for path in sorted((REPOSITORY / "core").rglob("*")):
        if path.suffix in {".py", ".yaml"}:
            found.update(path.read_bytes())
    return found.hexdigest()[:12]


def learnt(rows: pl.DataFrame, cut: Cut, folder: Path) -> Path:
    """Return the artifacts learnt from the sales up to a cut; they are kept."""
    artifacts = folder / f"{cut.n_before}-months"
    if not (artifacts / PREDICTIONS).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        sales = folder / f"{cut.n_before}-months.parquet"
        before = rows.filter(pl.col("t") < cut.market.first + cut.n_before)
        before.drop("t").write_parquet(sales)
        config = {
            "artifacts": str(artifacts),
            "data": {"source": "input", "input": str(sales)},
            "eligibility": {} if cut.is_long else HALF_A_YEAR,
        }
        run_all(Config.model_validate(config))
        sales.unlink()
    return artifacts


def published_labels(artifacts: Path, ids: pl.Series) -> dict[str, np.ndarray]:
    """Return the product's labels of every shop, as text.

    A shop without a segment goes by its state, or where it has none by no segment at
    all; a segment that is not divided is a leaf of its own.
    """
    table = pl.read_csv(artifacts / PREDICTIONS, infer_schema=False)
    for name in ("sub_segment", "state"):
        if name not in table.columns:
            table = table.with_columns(pl.lit(None, pl.String).alias(name))
    state = pl.col("state").fill_null("no state")
    segment = pl.coalesce("segment", "state").fill_null("no segment")
    leaf = pl.coalesce("sub_segment", segment)
    named = table.select("shop_id", segment=segment, leaf=leaf, state=state)
    rows = (
        ids.rename("shop_id")
        .to_frame()
        .join(named, on="shop_id", how="left", maintain_order="left")
    )
    rows = rows.fill_null("no row")
    labels = {
        SEGMENTS: rows["segment"],
        LEAVES: rows["leaf"],
        STATES: rows["state"],
        BOTH: rows["leaf"] + " " + rows["state"],
    }
    return {name: values.to_numpy() for name, values in labels.items()}


def said_of(artifacts: Path, cut: Cut, labels: dict[str, np.ndarray]) -> str:
    """Say what was published at a cut, of the eligible shops."""
    who = cut.populations["all"]
    verdict = json.loads((artifacts / PUBLISHED).read_text(encoding="utf-8"))["verdict"]
    parts = []
    for name, values in labels.items():
        counts = np.unique(values[who], return_counts=True)[1]
        shares = counts / counts.sum()
        effective = np.exp(-(shares * np.log(shares)).sum())
        parts.append(
            f"{name.removeprefix('ours: ')} {len(counts)} (effectively "
            f"{effective:.1f}, largest {shares.max():.0%})"
        )
    return f"{cut.n_before} months: {verdict['kind']}; {'; '.join(parts)}."


Found = dict[str, dict[str, list[Errors]]]


def judge_all(
    cut: Cut, who: np.ndarray, ours: dict[str, np.ndarray], found: dict[str, Any]
) -> None:
    """Add the errors of every method for one population after one cut."""
    judge = Judge(cut, who)
    labels = {key: values[who] for key, values in ours.items()}
    for key, values in (labels | plain_labels(cut, who)).items():
        found[key].append(judge.judge(values))
    found[BOOSTED].append(judge.boosted())
    rng = np.random.default_rng(0)
    for number in range(N_SHUFFLES):
        shuffled = judge.judge(rng.permutation(labels[BOTH]))
        found[f"shuffled {number}"].append(shuffled)


def measure(name: str, rows: pl.DataFrame, folder: Path) -> tuple[Found, Market]:
    """Judge the product and the plain methods after every cut; by population."""
    market = Market.of(rows)
    found: Found = {who: defaultdict(list) for who in POPULATIONS}
    print(f"## {name}: {len(market.ids):,} shops, {market.quantity.shape[1]} months\n")
    for n_before in market.cuts():
        cut = Cut(market, n_before)
        artifacts = learnt(rows, cut, folder)
        ours = published_labels(artifacts, market.ids)
        print(said_of(artifacts, cut, ours), flush=True)
        # Thousands of small decompositions: threads would wait for one another.
        with threadpool_limits(1):
            for kind, who in cut.populations.items():
                judge_all(cut, who, ours, found[kind])
    print()
    return found, market


@dataclass(frozen=True)
class Figures:
    """Increments of one population, means over cuts.

    Attributes
    ----------
    fitted : dict of str to ndarray of float64, shape (3,)
        Per labels: as a fit sees them in the sample; NaN for gradient boosting.
    unseen : dict of str to ndarray of float64, shape (n_resamples + 1, 3)
        On shops that the fit has not seen; the first row is the figure itself.
    """

    fitted: dict[str, np.ndarray]
    unseen: dict[str, np.ndarray]

    @classmethod
    def of(cls, by_method: dict[str, list[Errors]], n_shops: int) -> Figures:
        """Average over cuts, and what was shuffled several times over the times."""
        draws = resampled(n_shops)
        fitted = {
            name: np.mean([one.fitted for one in errors], axis=0)
            for name, errors in by_method.items()
        }
        unseen = {name: increments(errors, draws) for name, errors in by_method.items()}
        shuffles = [name for name in unseen if name.startswith("shuffled ")]
        for figures in (fitted, unseen):
            parts = [figures.pop(name) for name in shuffles]
            figures[f"{BOTH}, shuffled"] = np.mean(parts, axis=0)
        return cls(fitted, unseen)

    def best_plain(self, outcome: int) -> str:
        """Return the plain method that says most of an outcome."""
        plain = [name for name in self.unseen if name.startswith(PLAIN)]
        return max(plain, key=lambda name: self.unseen[name][0, outcome])

    def against_plain(self, outcome: int) -> str:
        """Return what ours says more than the best plain method, with its interval."""
        ours, best = self.unseen[BOTH], self.unseen[self.best_plain(outcome)]
        return spread(ours[:, outcome] - best[:, outcome])


def table_of(figures: Figures) -> str:
    """Return the table of one population: a row per labels."""
    lines = [
        "| labels | growth, fitted | unseen | activity, fitted | unseen "
        "| growth with usual sales known, fitted | unseen |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, values in figures.unseen.items():
        cells = []
        for j in range(len(OUTCOMES)):
            inside = figures.fitted[name][j]
            cells += ["" if np.isnan(inside) else figure(inside), spread(values[:, j])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


SUMMARY = """\
| data | outcome | segments | states | leaves and states | best plain method \
| ours less the best plain | boosting | shuffled |
|---|---|---:|---:|---:|---|---:|---:|---:|"""


def summary_of(title: str, figures: Figures) -> list[str]:
    """Return rows of the summary, one per outcome: increments on unseen shops."""
    rows = []
    for j, outcome in enumerate(OUTCOMES):
        best = figures.best_plain(j)
        named = (SEGMENTS, STATES, BOTH, best, BOOSTED, f"{BOTH}, shuffled")
        cells = [figure(figures.unseen[name][0, j]) for name in named]
        cells[3] += f" ({best})"
        cells.insert(4, figures.against_plain(j))
        rows.append(f"| {title} | {outcome} | {' | '.join(cells)} |")
    return rows


def figure(value: float) -> str:
    """Write an increment with three decimals and no 0 before the point."""
    text = f"{value:.3f}".replace("0.", ".", 1)
    return ".000" if text == "-.000" else text


def spread(values: np.ndarray) -> str:
    """Write a figure, the first value, with the interval of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{figure(values[0])} ({figure(low)} to {figure(high)})"


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = REPOSITORY.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=shared, help="real data sets")
    parser.add_argument(
        "--sales",
        action="append",
        default=[],
        help="NAME=FILE[,FILE]: Parquet; shop_id, product_id, year, month, sales_qty",
    )
    parser.add_argument("--only", default="", help="data sets with this in their name")
    parser.add_argument("--cuts", action="store_true", help="a table per cut as well")
    parser.add_argument("--work", type=Path, default=WORK)
    chosen = parser.parse_args()
    version, summary = digest_of_core(), []
    for name, rows in sources(chosen):
        found, market = measure(name, rows, chosen.work / version / name)
        for kind, by_method in found.items():
            title = f"{name}, {POPULATIONS[kind]}"
            figures = show(title, by_method, market, chosen.cuts)
            summary += summary_of(f"{name}, {kind}", figures)
    print("\n".join(["## Increments on unseen shops\n", SUMMARY, *summary]))


def show(
    title: str, by_method: dict[str, list[Errors]], market: Market, is_by_cut: bool
) -> Figures:
    """Print the table of one population, and if asked that of every cut."""
    n_shops, cuts = len(market.ids), market.cuts()
    first = next(iter(by_method.values()))
    counts = [int((one.total.sum(axis=1) > 0).sum()) for one in first]
    pairs = zip(counts, cuts, strict=True)
    told = ", ".join(f"{n:,} after {cut}" for n, cut in pairs)
    figures = Figures.of(by_method, n_shops)
    print(f"### {title} ({told} months)\n\n{table_of(figures)}\n")
    for n, cut in enumerate(cuts if is_by_cut and len(cuts) > 1 else ()):
        part = {name: [errors[n]] for name, errors in by_method.items()}
        table = table_of(Figures.of(part, n_shops))
        print(f"#### {title}, after {cut} months\n\n{table}\n")
    return figures


if __name__ == "__main__":
    main()
