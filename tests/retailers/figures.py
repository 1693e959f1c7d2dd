"""The figures of a run, by their names, in everything that people read of it.

A *fact* is one figure under one name, such as ``0 Average: shops``. The report, the
model card and what a run prints at its end are read cell by cell and sentence by
sentence; whatever is found of a fact is compared with what ``segments.json``, the
manifest and the tables beside it hold in full precision. A column or a line of a table
under a name that is not known here is a finding, too.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl

REPORT, CARD, TERMINAL = "report.html", "model-card.md", "terminal"
Facts = Mapping[str, float | str]


@dataclass(frozen=True)
class Figure:
    """What a source says of a fact."""

    source: str
    fact: str
    text: str


@dataclass
class Read:
    """A page as its sentences and the rows of its tables, header by header."""

    sentences: list[str] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)


# --- what is saved ------------------------------------------------------------------


def saved_facts(folder: Path) -> dict[str, float | str]:
    """Return every fact as it is saved: numbers in full precision, and words."""
    saved = json.loads((folder / "segments.json").read_text(encoding="utf-8"))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    stages = {name: stage["facts"] for name, stage in manifest["stages"].items()}
    prepared, clustered = stages["prepare"], stages["clustering"]
    own = [segment for segment in saved["segments"] if segment["id"] >= 0]
    verdict = saved["verdict"]
    standing = "certified" if verdict["is_certified"] else "provisional"
    facts: dict[str, float | str] = {
        "verdict": f"{verdict['kind'].capitalize()} ({standing})",
        "shops seen": prepared["n_shops"],
        "shops segmented": prepared["n_eligible"],
        "segments": len(own),
        "largest share": max(segment["share"] for segment in own),
        "assigned": sum(segment["share"] for segment in own),
        "effective segments": _effective([segment["size"] for segment in own]),
        "lapsed": prepared["states"]["lapsed"],
    }
    facts |= {f"not segmented: {why}": n for why, n in prepared["exclusions"].items()}
    facts |= _of_segments(folder, saved["segments"])
    for space, found in clustered["spaces"].items():
        facts |= _of_clusters(f"{space} space", found)
    numbers = (int, float)
    basis = {n: v for n, v in verdict["basis"].items() if type(v) in numbers}
    told = basis.get("rules_ari", basis.get("partition_ari"))
    facts |= basis | ({} if told is None else {"refits by the verdict (ARI)": told})
    certificate = stages["inference"].get("certificate")
    if certificate is not None:
        facts |= _of_certificate(certificate["structure"])
    kind = saved["segments"][0]["kind"]
    same = stages["inference"].get("stability")
    if same is None or same["kind"] != kind:
        same = {} if certificate is None else certificate["agreement"].get(kind, {})
    if same:
        facts |= {"refits (ARI)": same["ari"], "n_refits": same["n_refits"]}
        facts["refits, unseen (ARI)"] = same["ari_held_out"]
    ami = pl.read_csv(folder / "comparison.csv")["agreement_ami"][0]
    return facts if ami is None else facts | {"agreement of the spaces (AMI)": ami}


def _of_clusters(space: str, found: dict[str, Any]) -> dict[str, float]:
    largest = (found["largest_share"] or 0.0) * (1 - found["noise_ratio"])
    values = (found["n_clusters"], found["effective_clusters"], largest)
    return dict(zip(_of(space), (*values, found["noise_ratio"]), strict=True))


def _of_certificate(found: dict[str, Any]) -> dict[str, float]:
    """Return what the whole pipeline has found in data without groups."""
    passed = [own for own in found["segments"] if own["p_value"] <= 0.05]
    return {
        **_of_clusters("certificate", found["clusters"]),
        "certificate: shops": found["n_rows"],
        "certificate: lead": found["excess"],
        "certificate: required lead": found["required_excess"],
        "stand out": len(passed),
    }


def _effective(sizes: list[int]) -> float:
    """Return exp(entropy) of sizes: how many equal ones would be as many."""
    shares = [size / sum(sizes) for size in sizes if size]
    return math.exp(-sum(share * math.log(share) for share in shares))


def _of_segments(folder: Path, segments: list[dict[str, Any]]) -> dict[str, float]:
    """Return shops, shares and Jaccard of segments and sub-segments."""
    tree = pl.read_csv(folder / "segment_tree.csv", schema_overrides={"id": pl.String})
    every = [*segments, *(p for s in segments for p in _parts(s))]
    saved = {str(own["id"]): own for own in every}
    facts: dict[str, float] = {}
    for row in tree.iter_rows(named=True):
        title, own = title_of(row["id"], row["name"]), saved[row["id"]]
        assert (own["size"], own["name"]) == (row["n_shops"], row["name"])
        facts[f"{title}: shops"] = row["n_shops"]
        facts[f"{title}: share"] = row["share"]
        facts[f"{title}: share of sales"] = row["sales_share"]
    assert tree.height == len(saved)
    if (folder / "stability.csv").exists():
        found = pl.read_csv(folder / "stability.csv").filter(kind=segments[0]["kind"])
        for row in found.drop_nulls("segment").iter_rows(named=True):
            title = title_of(str(row["segment"]), saved[str(row["segment"])]["name"])
            facts[f"{title}: Jaccard"] = row["jaccard"]
            facts[f"{title}: lowest"] = row["lowest_jaccard"]
        facts["come back"] = int((found.drop_nulls("segment")["jaccard"] >= 0.75).sum())
    return facts


def _parts(segment: dict[str, Any]) -> list[dict[str, Any]]:
    division = segment["division"]
    return [] if division is None else division["segments"]


def title_of(key: str, name: str) -> str:
    """Return what a segment is called everywhere: its id and its name."""
    return name if key == "-1" else f"{key} {name}"


# --- what is read -------------------------------------------------------------------


class _Page(HTMLParser):
    """Reads sentences and tables; what a script or a picture says is left out."""

    BLOCKS = frozenset(
        [
            "p",
            "li",
            "h1",
            "h2",
            "h3",
            "dd",
            "dt",
            "caption",
            "figcaption",
            "summary",
            "article",
        ]
    )

    def __init__(self) -> None:
        super().__init__()
        self.read, self.text = Read(), ""
        self.headers: list[str] = []
        self.cells: list[str] | None = None
        self.skipped, self.term = 0, ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "style", "svg"}:
            self.skipped += 1
        elif tag == "table":
            self._end()
            self.headers = []
        elif tag == "tr":
            self.cells, self.text = [], ""
        elif tag in {"td", "th"}:
            self.text = ""
        elif tag in self.BLOCKS and self.cells is None:
            self._end()
        elif tag in {"br", "span", "div"}:
            self.text += " "

    def handle_endtag(self, tag: str) -> None:
        if tag in {"script", "style", "svg"}:
            self.skipped -= 1
        elif tag in {"td", "th"} and self.cells is not None:
            self.cells.append(one_line(self.text))
        elif tag == "tr" and self.cells is not None:
            if self.headers:
                self.read.rows.append(dict(zip(self.headers, self.cells, strict=False)))
            self.headers = self.headers or [cell.lower() for cell in self.cells]
            self.cells, self.text = None, ""
        elif tag == "dt":
            self.term, self.text = one_line(self.text), ""
        elif tag == "dd":
            told = {"figure": self.term, "value": one_line(self.text)}
            self.read.rows.append(told)
            self.text = ""
        elif tag in self.BLOCKS and self.cells is None:
            self._end()

    def handle_data(self, data: str) -> None:
        if not self.skipped:
            self.text += data

    def _end(self) -> None:
        if text := one_line(self.text):
            self.read.sentences.append(text)
        self.text = ""


def one_line(text: str) -> str:
    return " ".join(html.unescape(text).split())


def read_report(text: str) -> Read:
    page = _Page()
    page.feed(text)
    return page.read


def read_card(text: str) -> Read:
    """Read Markdown, without the configuration at its end."""
    read, headers = Read(), None
    for line in text.split("```yaml", maxsplit=1)[0].splitlines():
        if not line.startswith("|"):
            headers = None
            plain = re.sub(r"\\(.)|[*`]", r"\1", line.removeprefix("- "))
            read.sentences += [plain] if plain.strip() else []
            continue
        cells = [re.sub(r"\\(.)", r"\1", c.strip()) for c in line.split(" | ")]
        cells[0], cells[-1] = cells[0].lstrip("| "), cells[-1].rstrip("| ")
        if headers is None:
            headers = [
                cell.lower() or ("figure", "value")[i] for i, cell in enumerate(cells)
            ]
        elif not line.startswith("|---"):
            read.rows.append(dict(zip(headers, cells, strict=True)))
    return read


def read_closing(result: Any) -> Read:
    rows = [{name.lower(): cell for name, cell in row.items()} for row in result.table]
    return Read([one_line(line) for line in result.lines], rows)


# --- what is compared ---------------------------------------------------------------

N, SHARE, SCORE = (
    r"(\d[\d,]*)",
    r"(\d[\d.]*%)",
    r"([\N{MINUS SIGN}-]?\d[\d,]*(?:\.\d+)?)",
)
_CLUSTERS = (
    rf"{N} clusters?, {SCORE} effective clusters, the largest with {SHARE} of the "
    rf"shops; noise ratio {SHARE}"
)
MEASURES = ("clusters", "effective clusters", "largest share", "noise ratio")


def _of(space: str) -> tuple[str, ...]:
    return tuple(f"{space}: {measure}" for measure in MEASURES)


# Figures in sentences: what is said, and the facts that its numbers are.
SENTENCES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (rf"^{N} of {N} shops could be segmented", ("shops segmented", "shops seen")),
    (r"^(?:Verdict: )?(\w+ \((?:provisional|certified)\))", ("verdict",)),
    (rf"{N} segments (?:hold|cover|by rules)", ("segments",)),
    (rf"segments hold {SHARE} of these", ("assigned",)),
    (rf"segments hold \S+ of these {N} shops", ("shops segmented",)),
    (rf"Sizes \D+; the largest holds {SHARE}", ("largest share",)),
    (rf"[Oo]ther {SHARE} are unassigned", ("unassigned: share",)),
    (
        rf"Unassigned: {N} shops \({SHARE}\)",
        ("unassigned: shops", "unassigned: share"),
    ),
    (rf"structure score of {SCORE} at most", ("largest_null_score",)),
    (rf"these shops reach {SCORE} \(p", ("structure_score",)),
    (rf"{N} random data sets(?: \([^)]*\))? without groups", ("n_nulls",)),
    (rf"[(;] ?p\s=\s{SCORE}", ("p_value",)),
    (rf"Structure score \([^)]*\) of {N} shops", ("shops segmented",)),
    (rf"refitted {N} times", ("n_refits",)),
    (rf"agree with the published segments at {SCORE}", ("refits (ARI)",)),
    (rf"{SCORE} for shops that the refit had not seen", ("refits, unseen (ARI)",)),
    (rf"{N} of {N} segments come back", ("come back", "segments")),
    (rf"of {N} data sets without groups, rings", ("n_nulls",)),
    (rf"\(AMI {SCORE};", ("agreement of the spaces (AMI)",)),
    (rf"agree with these at {SCORE}", ("refits by the verdict (ARI)",)),
    (rf"reproducible from {SCORE}", ("reproducible_ari",)),
    (rf"{N} shops have lapsed", ("lapsed",)),
    (rf"^{N} shops labelled, \d", ("shops segmented",)),
    (
        rf"^{N} shops? \({SHARE}\), {SHARE} of sales",
        ("{title}: shops", "{title}: share", "{title}: share of sales"),
    ),
    (rf"^Latent space: {_CLUSTERS}", _of("latent space")),
    (rf"^Raw space: {_CLUSTERS}", _of("raw space")),
    (rf"Raw features: {_CLUSTERS}", _of("raw space")),
    (
        rf"^Found in these shops \({N} of them\): {_CLUSTERS}",
        ("certificate: shops", *_of("certificate")),
    ),
    (
        rf"{SCORE} ahead of the best of them; {SCORE} required",
        ("certificate: lead", "certificate: required lead"),
    ),
    (rf"Everything was refitted on {N} random data sets(?: \(.*?\))?", ("n_nulls",)),
    (rf"^{N} of {N} clusters also stand out", ("stand out", "certificate: clusters")),
    (rf"One by one, {N} of {N} stand out", ("stand out", "certificate: clusters")),
    (rf"the segments keep {SHARE} of their shops", ("cluster_jaccard",)),
    (rf"on average {SHARE} of the shops in common", ("cluster_jaccard",)),
    (rf"up to {SHARE} not found again", ("dissolved_jaccard",)),
)
# What must not be told of but by the sentences above, and their fixed bounds.
NAMED = (
    r"[Ss]tructure score|Rand index|Jaccard|[Ee]ffective|[Nn]oise ratio|[Uu]nassigned"
)
# Other names of the same, and what contradicts a cautious verdict.
RETIRED = r"highly stable|left out|eligible|structure_score|_ari\b|noise_ratio"
BOUNDS = (
    r"1 is the same|0 is chance|0 is nothing|1 the same groups|last 12 months"
    r"|Jaccard 0\.75 or more|from 0\.75|below 0\.6|from 75%|at most 0\.05 required"
    r"|refitted on 80% of the shops|the smallest that \d+ can give"
)
# Figures in tables of two columns: what a line is called, and the fact that it is.
LINES = {
    "shops seen": "shops seen",
    "shops segmented": "shops segmented",
    "segments": "segments",
    "effective segments": "effective segments",
    "largest share": "largest share",
    "unassigned": "unassigned: share",
    "structure score of these shops": "structure_score",
    "largest structure score of data without groups": "largest_null_score",
    "p of the structure score": "p_value",
    "data sets without groups": "n_nulls",
    "latent clusters": "n_clusters",
    "how well they come back, on average (jaccard)": "cluster_jaccard",
    "dissolved up to this jaccard": "dissolved_jaccard",
    "agreement of refits of the partition (ari)": "partition_ari",
    "agreement of refits of the rules (ari)": "rules_ari",
    "reproducible from this ari on": "reproducible_ari",
    "refits of the partition": "n_partition_refits",
}
# Lines and columns that hold words, or figures that stand in one place only.
ALONE = frozenset(
    {
        *("source", "months of sales", "features as of", "states of shops", "features"),
        *("scaling", "autoencoder", "latent dimensions", "partition", "rules"),
        *("more structure than chance", "model", "lineage", "made at", "seed"),
        *("data, sha-256", "python", "stable-segments", "numpy", "polars", "duckdb"),
        *("scikit-learn", "hdbscan", "keras", "tensorflow", "prepare", "clustering"),
        *("months and trend", "states", "what sets it apart", "what it is"),
        *("what to do (suggestion)", "largest by sales", "all of them", "other seed"),
        *("p against nulls", "new", "active", "reviving", "slowing", "lapsed"),
    }
)
COLUMNS = {
    name.lower(): name for name in ("shops", "share", "share of sales", "lowest")
}
COLUMNS |= {"jaccard": "Jaccard", "how sure": "how sure"}
SPACES = {"latent space": "latent space", "raw features": "raw space"}


def figures_in(source: str, read: Read, facts: Facts) -> Iterator[Figure]:
    """Yield every figure under the fact that its name says; see `LINES` and others."""
    names = [name.removesuffix(": share") for name in facts if name.endswith(": share")]
    titles = {name.lower(): name for name in names}
    patterns = [*SENTENCES, *_of_reasons(facts)]
    title = ""
    for sentence in read.sentences:
        title = titles.get(sentence.lower(), title)
        rest = [*sentence]
        for pattern, told in patterns:
            for found in re.finditer(pattern, sentence):
                rest[found.start() : found.end()] = " " * len(found[0])
                for name, text in zip(told, found.groups(), strict=True):
                    yield Figure(source, name.format(title=title), text)
        unread = re.sub(BOUNDS, "", "".join(rest))
        for name in names:  # a legend
            unread = unread.replace(name, "")
        if found := re.search(RETIRED, sentence):
            yield Figure(source, f"retired: {found[0]}", sentence)
        if re.search(NAMED, sentence) and re.search(r"\d", unread):
            yield Figure(source, f"unread: {one_line(unread)}", "")
    for row in read.rows:
        yield from _of_row(source, row, titles, facts)


def _of_reasons(facts: Facts) -> list[tuple[str, tuple[str, ...]]]:
    """Return how reasons for leaving shops out are told, with their numbers."""
    reasons = [name for name in facts if name.startswith("not segmented: ")]
    told = [(re.escape(name.removeprefix("not segmented: ")), name) for name in reasons]
    return [
        *((rf"^not segmented: {why}: {N} shops?$", (name,)) for why, name in told),
        *(
            (rf"(?:not: |, | and ){N} {why}(?=,|\.| and )", (name,))
            for why, name in told
        ),
    ]


def _of_row(
    source: str, row: dict[str, str], titles: Mapping[str, str], facts: Facts
) -> Iterator[Figure]:
    first, *others = row
    if first == "figure" and len(row) == 2:
        label = row[first].lower()
        if label == "states of shops":
            yield Figure(source, "lapsed", row["value"].split(", ")[-1].split()[0])
        if label not in ALONE:
            yield Figure(source, LINES.get(label, f"unknown: {label}"), row["value"])
    elif (title := titles.get(row[first].lower())) is not None:
        for column in others:
            yield from _of_title(source, title, column, row[column])
    elif {*SPACES} & {*row}:
        for measure in MEASURES:
            if re.match(rf"{measure}\b", row[first], re.IGNORECASE):
                for column, space in SPACES.items():
                    yield Figure(source, f"{space}: {measure}", row[column])
    elif first == "step" and row[first] in facts:
        yield Figure(source, row[first], row["count"])


def _of_title(source: str, title: str, column: str, text: str) -> Iterator[Figure]:
    """Yield the figures in the row of a segment."""
    if column in ALONE or not text or text == "\N{EN DASH}":
        return
    if both := re.fullmatch(r"(\d[\d,]*) (\S+%)", text):  # shops, and their share
        yield Figure(source, f"{title}: shops", both[1])
        yield Figure(source, f"{title}: share", both[2])
        return
    name = COLUMNS.get(column, f"unknown: {column}")
    yield Figure(source, f"{title}: {name}", text)


def agrees(text: str, saved: float | str) -> bool:
    """Whether a text is a saved number as far as its digits go, or a saved word.

    >>> agrees("4,586", 4586), agrees("24%", 0.2394), agrees("0.28", 0.2756)
    (True, True, True)
    >>> agrees("25%", 0.2394), agrees("4,587", 4586), agrees("99.9%", 0.99962)
    (False, False, True)
    """
    if isinstance(saved, str) or text == "\N{EN DASH}":  # nothing has no share
        return text == saved or not saved
    number = text.replace(",", "").replace("\N{MINUS SIGN}", "-")
    decimals = len(number.rstrip("%").partition(".")[2])
    shown = float(number.rstrip("%"))
    wanted = 100 * saved if number.endswith("%") else saved
    # What is nearly all is rounded down, so that only all is 100%.
    within = 1.0 if number.startswith("99.") else 0.5
    return abs(shown - wanted) <= within * 10.0**-decimals + 1e-9


def findings(figures: Iterable[Figure], facts: Facts) -> list[str]:
    """Say where a figure is not what is saved, has no known name, or has two values."""
    found, told = [], {}
    for figure in figures:
        if figure.fact in facts:
            if not agrees(figure.text, facts[figure.fact]):
                saved = facts[figure.fact]
                found.append(
                    f"{figure.source}: {figure.fact}: {figure.text}, not {saved}"
                )
        elif (
            not figure.fact.endswith(": how sure")
            or told.setdefault(figure.fact, figure.text) != figure.text
        ):
            found.append(f"{figure.source}: {figure.fact}: {figure.text}")
    return found


def told_of(
    folder: Path, closing: Any = None
) -> tuple[dict[str, float | str], list[Figure]]:
    """Return what is saved of a run, and every figure that is told of it."""
    facts = saved_facts(folder)
    pages = {
        REPORT: read_report((folder / REPORT).read_text(encoding="utf-8")),
        CARD: read_card((folder / CARD).read_text(encoding="utf-8")),
    }
    if closing is not None:
        pages[TERMINAL] = read_closing(closing)
    return facts, [f for name, p in pages.items() for f in figures_in(name, p, facts)]
