"""The one typed configuration: options with units and defaults, and how they are set.

`core.config` merges it from defaults, file, environment and flags;
``docs/configuration.md`` is printed from this module.

Each overrides the one before: the defaults of `core.config`, a YAML file
(``--config``), the environment (``SEGMENTS_CLUSTERING__MIN_CLUSTER_SIZE=30``), the
command line (``--set clustering.min_cluster_size=30``, ``--seed 7``). An unknown key is
refused wherever it comes from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    field_validator,
)

from core.errors import ConfigError, did_you_mean
from core.redaction import HIDDEN, redacted_address

Policy = Literal["keep", "drop", "error"]
# In plain text and in single quotes YAML takes these for the ends of lines and folds
# them; PyYAML writes them there as they are.
_FOLDED = frozenset("\x85\u2028\u2029")


class YamlDumper(yaml.SafeDumper):
    """PyYAML's safe dumper, except that every text it writes is read back the same."""


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = None if _FOLDED.isdisjoint(value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


YamlDumper.add_representer(str, _represent_text)


class YamlLoader(yaml.SafeLoader):
    """PyYAML's safe loader, except that a date stays the text that it is written as."""


YamlLoader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in known if not tag.endswith(":timestamp")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str) -> Any:
    """Return what is written in YAML.

    Raises
    ------
    ValueError
        If it is none, or beyond what can be read; the message is one line.
    """
    try:
        return yaml.load(text, Loader=YamlLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem or error.context}") from None
    except RecursionError:
        raise ValueError("its brackets or indents are nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(str(error).splitlines()[0].split(";")[0]) from None


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Section(BaseModel):
    """A group of options; unknown keys are refused, values are never coerced away.

    As JSON, which is how options are saved and shown, addresses are redacted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_serializer("*", mode="wrap", when_used="json")
    def _redacted(self, value: Any, serialised: SerializerFunctionWrapHandler) -> Any:
        return redacted_address(value) if isinstance(value, str) else serialised(value)

    @field_validator("*")
    @classmethod
    def _can_be_written(cls, value: Any) -> Any:
        if isinstance(value, str) and ("\0" in value or not _is_encodable(value)):
            raise ValueError("holds a character that no name or path can have")
        return value


class Policies(Section):
    """What to do with a faulty row: keep it, drop it (set it aside), or stop."""

    ragged_line: Policy = Field(
        "drop",
        description="CSV line with more cells than the header; kept = cut off there",
    )
    missing_id: Policy = Field("drop", description="`shop_id` or `product_id` empty")
    impossible_month: Policy = Field(
        "drop", description="month not 1-12, year not 1900-2199, or a date unreadable"
    )
    invalid_quantity: Policy = Field(
        "drop", description="quantity not a finite number, or beyond +-1e9"
    )
    negative_quantity: Policy = Field(
        "keep", description="quantity below 0; kept, a return is netted off its month"
    )
    zero_quantity: Policy = Field("keep", description="quantity exactly 0")
    exact_duplicate: Policy = Field(
        "drop", description="a row equal to an earlier one in every source column"
    )
    repeated_key: Policy = Field(
        "keep",
        description="different rows of one shop, product and month; kept = summed",
    )
    total_row: Policy = Field(
        "drop", description="row that is the sum of others, such as a subtotal"
    )
    scientific_id: Policy = Field(
        "error",
        description="id such as `4.00638E+12`, which has lost digits in Excel; also of "
        "`axes`",
    )

    @field_validator("missing_id", "impossible_month", "invalid_quantity")
    @classmethod
    def _cannot_be_kept(cls, value: Policy) -> Policy:
        if value == "keep":
            raise ValueError("such a row cannot be used; choose `drop` or `error`")
        return value


class DataConfig(Section):
    """Where the rows come from and how they are read."""

    source: Literal["sample", "kaggle", "input"] = Field(
        "sample",
        description="`sample` (built-in generator), `kaggle`, or `input` (your files)",
    )
    input: str | None = Field(
        None,
        description="file, folder, glob or s3:// address: CSV (.gz), Parquet, Excel",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="our name: your name, for `shop_id`, `product_id`, `year`, "
        "`month`, `date` (instead of year and month), `sales_qty` and `sales_value` "
        "(optional)",
    )
    date_format: str | None = Field(
        None, description="strptime format of a `date` column; null: ISO 8601"
    )
    sheet: list[str] | None = Field(
        None,
        description="Excel sheet, or several; null: all visible sheets, if they have "
        "the same columns",
    )
    header_row: int | None = Field(
        None,
        ge=1,
        description="line of the column names in a CSV or Excel sheet, from 1; null: "
        "the first with a cell, or one below titles",
    )
    fill_down: list[str] = Field(
        default_factory=list,
        description="columns, as the file names them, whose empty cells take the value "
        "above, as merged cells of Excel need",
    )
    separator: str | None = Field(
        None,
        description="CSV column separator, one character or `tab`; null: found out "
        "among comma, semicolon, tab and bar",
    )
    decimal: Literal[".", ","] | None = Field(
        None,
        description="decimal mark of numbers typed as text, where `4.700` or `4,700` "
        "leave it open; null: as the other cells of the column show",
    )
    encoding: str | None = Field(
        None,
        description="CSV encoding such as `utf-8` or `cp1252`; null: UTF-8, else "
        "UTF-16 by its mark, else Windows-1252, with a note",
    )
    kaggle_handle: str = Field(
        "tanulkumarsrivastava/sales-dataset", description="owner/data-set on Kaggle"
    )
    kaggle_file: str | None = Field(
        "shop-sales-data.csv",
        description="file inside the Kaggle data set; null: every table in it",
    )
    exclude_ids: list[str] = Field(
        [],
        description="shops or customers to leave out, such as the placeholders `0` and "
        "`guest`",
    )
    policies: Policies = Field(default_factory=Policies)

    @field_validator("sheet", "fill_down", "exclude_ids", mode="before")
    @classmethod
    def _names_as_text(cls, value: object) -> object:
        """Take `2023`, which YAML reads as a number, and one name for several."""
        if isinstance(value, list):
            return [str(v) if isinstance(v, int | float) else v for v in value]
        return [str(value)] if isinstance(value, str | int | float) else value

    @field_validator("separator")
    @classmethod
    def _is_one_character(cls, value: str | None) -> str | None:
        is_one = value is not None and len(value) == 1 and "\0" < value <= "\x7f"
        if value not in (None, "tab") and (not is_one or value in '\n\r"'):
            raise ValueError("expected one ASCII character but no quote, or `tab`")
        return value

    @field_validator("encoding")
    @classmethod
    def _is_of_text(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            "1".encode(value).decode(value)
        except (LookupError, ValueError):
            raise ValueError(
                "no encoding of text that Python knows; expected a name such as "
                "`utf-8`, `cp1252` or `utf-16`"
            ) from None
        return value


class SampleConfig(Section):
    """The built-in generator of monthly FMCG sales."""

    n_shops: int = Field(5000, ge=1, description="shops")
    n_months: int = Field(36, ge=1, le=240, description="months")
    first_month: str = Field(
        "2022-01", pattern=r"^\d{4}-(0[1-9]|1[0-2])$", description="YYYY-MM"
    )
    structure: Literal["archetypes", "none"] = Field(
        "archetypes", description="planted archetypes, or one population without any"
    )
    difficulty: Literal["easy", "medium", "hard"] = Field(
        "medium", description="monthly noise and share of in-between shops"
    )
    family: str = Field(
        "fmcg",
        description="table of archetypes, by its name in `core.retailers.archetypes`",
    )
    products_per_month: float = Field(
        6.0,
        gt=0,
        le=200,
        description="mean distinct products per shop and active month, at least 1",
    )


class EligibilityConfig(Section):
    """Who may be clustered."""

    min_tenure_years: float = Field(
        1.0, gt=0, description="total active months >= 12 x this"
    )
    min_avg_active_months_per_year: float = Field(
        6.0, gt=0, le=12, description="mean active months per active calendar year"
    )
    max_inactive_months: int | None = Field(
        None,
        ge=1,
        description="months up to `as_of` without a sale after which a shop counts as "
        "gone; null: never in a training run, 6 in monthly refreshes",
    )


class FeaturesConfig(Section):
    """What is computed of each shop."""

    name: Literal["behaviour", "baseline"] = Field(
        "behaviour",
        description="`behaviour` (how a shop sells) or `baseline` (the reference's 29)",
    )
    as_of: str | None = Field(
        None,
        pattern=r"^\d{4}-(0[1-9]|1[0-2])$",
        description="last month looked at, YYYY-MM; null: the newest complete month",
    )
    history_months: int = Field(
        36, ge=12, le=240, description="months up to `as_of` that `behaviour` looks at"
    )
    engine: Literal["polars", "duckdb"] = Field(
        "polars", description="what evaluates the features; the results are equal"
    )


class ScalingConfig(Section):
    """How features are put on one scale."""

    method: Literal["winsorised", "robust"] = Field(
        "winsorised",
        description="`winsorised` (clip, mean 0, std 1) or `robust` (median and IQR)",
    )
    tail_share: float = Field(
        0.01, ge=0.0, lt=0.5, description="share clipped at each end (`winsorised`)"
    )


class AutoencoderConfig(Section):
    """The representation."""

    architecture: Literal["neighbours", "denoising", "reference"] = Field(
        "neighbours",
        description="ours, a plain denoising one, or the published one; null below: "
        "the architecture's own value, given in this order",
    )
    latent_size: int = Field(5, ge=1, description="dimensions of the latent space")
    hidden_size: int | None = Field(
        None,
        ge=1,
        description="width of the hidden layers; null: 64, 64, or half the features",
    )
    corruption: float | None = Field(
        None,
        ge=0.0,
        description="std of the noise added to the scaled features in training; null: "
        "0.4, 0.1 or 0",
    )
    epochs: int | None = Field(
        None,
        ge=1,
        description="upper bound of epochs; null: 30, 200 or 30",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="shops (or pairs) per gradient step; null: 1,024 pairs, 32 to 256 "
        "by the number of shops, or 300",
    )
    learning_rate: float | None = Field(
        None, gt=0, description="Adam step size; null: 0.005, 0.001 or 0.001"
    )
    validation_share: float | None = Field(
        None,
        gt=0.0,
        lt=1.0,
        description="share of shops held out for early stopping; null: 0.1, 0.2 or "
        "0.35",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="epochs without improvement before stopping; null: never, 10 or 5",
    )


class ClusteringConfig(Section):
    """HDBSCAN on the raw scaled features and on the latent space."""

    min_cluster_size: int | None = Field(
        None,
        ge=2,
        description="fewest shops in a cluster; null: 2% of the shops, between 10 and "
        "50, and 1% from 5,000 shops on",
    )
    min_samples: int | None = Field(
        None,
        ge=1,
        description="neighbours that make a density estimate; null: of 5, 10, 30 and "
        "100 the one with the highest coverage x ln(effective clusters)",
    )
    selection_method: Literal["eom", "leaf"] = Field(
        "eom", description="hdbscan's cluster_selection_method"
    )
    batch_size: int = Field(
        50_000,
        ge=1,
        description="shops held in memory at once while labels are assigned",
    )

    @property
    def n_needed(self) -> int:
        """Return the fewest shops that can be clustered with these options."""
        return max(self.min_cluster_size or 0, (self.min_samples or 0) + 1, 10)


class EvaluationConfig(Section):
    """What a run keeps and computes to judge its segments."""

    max_shops: int = Field(
        10_000,
        ge=100,
        description="shops, drawn at random, whose past is kept for looking back",
    )
    n_cuts: int = Field(
        3, ge=1, le=12, description="earlier months at which the features are computed"
    )
    cut_step_months: int = Field(3, ge=1, description="months between two cuts")
    horizon_months: int = Field(
        6, ge=1, le=36, description="months after a cut in which shops are followed"
    )
    certificate_max_shops: int = Field(
        5000,
        ge=100,
        description="shops, drawn at random, of data and nulls in `certify`",
    )


class RefreshConfig(Section):
    """What `refresh` does month after month."""

    retrain: Literal["policy", "always", "never"] = Field(
        "policy", description="`policy` (where drift lasts), `always` or `never`"
    )

    survived: float = Field(
        0.7,
        gt=0.5,
        le=1.0,
        description="Jaccard index of members from which a segment is the same one",
    )
    part: float = Field(
        0.3,
        gt=0.0,
        lt=0.5,
        description="share of members from which a segment is part of a split or merge",
    )
    confirm_months: int = Field(
        3,
        ge=1,
        le=12,
        description="months running in another segment after which a shop has moved",
    )
    confirm_strength: float = Field(
        0.6,
        ge=0.0,
        le=1.0,
        description="strength from which a month in a segment counts; weaker ones are "
        "as good as unassigned when movement is told",
    )
    drift_thresholds: Literal["calibrated", "fixed"] = Field(
        "calibrated",
        description="`calibrated` by bootstrap for the shops at hand, or `fixed`: PSI "
        "0.25, Kolmogorov-Smirnov 0.1",
    )
    share_shift: float = Field(
        0.05, gt=0.0, lt=1.0, description="change of a segment's share that alerts"
    )
    months_running: int = Field(
        2, ge=1, le=12, description="months with an alert after which to retrain"
    )
    is_warm: bool = Field(
        default=True, description="a refit starts from the current encoder's weights"
    )
    gate_refits: int = Field(
        3, ge=2, le=100, description="refits that a challenger's stability rests on"
    )
    contract: str | None = Field(
        None, description="YAML file with what segments must keep; null: none"
    )
    keep_versions: int = Field(
        5, ge=1, description="earlier versions kept for `rollback`"
    )
    mlflow_uri: str | None = Field(
        None, description="MLflow tracking address; null: nothing is logged"
    )

    @field_validator("retrain", mode="before")
    @classmethod
    def _names_what_is_gone(cls, value: object) -> object:
        if value == "noise":
            raise ValueError(
                "looking for new segments among the unassigned alone was removed; "
                "choose `always` to learn everything anew, or `policy`"
            )
        return value


class AxesConfig(Section):
    """Customers on 13 behavioural axes: `axes`."""

    orders: str | None = Field(
        None,
        description="order rows: CSV (.gz), Parquet, Excel; file, folder, glob or "
        "s3://; null: the built-in sample",
    )
    items: str | None = Field(
        None, description="item rows, as `orders`; null: axes of products are skipped"
    )
    order_columns: dict[str, str] = Field(
        default_factory=dict,
        description="our name: your name, for `customer_id`, `order_id`, `order_date`, "
        "`total_price`, and optionally `discount_amount` and `source` (the channel)",
    )
    item_columns: dict[str, str] = Field(
        default_factory=dict,
        description="the same for `order_id`, `customer_id`, `product_id`, `quantity`, "
        "`price` (of one unit), and optionally `category` and `refund_amount`",
    )
    lines: str | None = Field(
        None,
        description="order lines instead of both: one file whose lines have customer, "
        "date, product, quantity and amounts, such as a shop's export",
    )
    line_columns: dict[str, str] = Field(
        default_factory=dict,
        description="the same for `customer_id`, `order_date`, `product_id`, "
        "`quantity`, `line_total` (what was paid for the line) or `price` (of one "
        "unit), and optionally `order_id`, `category`, `discount_amount`, "
        "`refund_amount` and `source`; other known names are taken, and told",
    )
    store: str = Field(
        "default",
        min_length=1,
        description="`store_id` that the profiles are kept under",
    )
    reference_date: str | None = Field(
        None,
        description="the day or moment that stands for now, ISO 8601; null: the newest "
        "order",
    )
    negative_orders: Literal["refund", "drop", "error"] = Field(
        "refund",
        description="an order or item line below 0: taken as a refund, set aside, or "
        "stop",
    )
    sample_customers: int = Field(
        5000, ge=1, description="customers of the built-in sample"
    )
    max_segments: int = Field(6, ge=1, le=20, description="most segments of one axis")
    min_segments: int = Field(
        1,
        ge=1,
        le=20,
        description="fewest segments of one axis; 1: an axis may say that it has none",
    )
    fit_customers: int | None = Field(
        None,
        ge=100,
        description="customers, drawn by value tier, that the axes are learnt from; "
        "null: all of them",
    )
    names: str | None = Field(
        None, description="YAML file with naming rules; null: the built-in ones"
    )


class StoreConfig(Section):
    """Where profiles are kept, and how they are served."""

    url: str | None = Field(
        None,
        description="PostgreSQL address; null: `DATABASE_URL`, or without that an "
        "embedded server in the artifacts folder",
    )
    host: str = Field("127.0.0.1", description="address that the API listens on")
    port: int = Field(
        8000, ge=0, le=65535, description="port of the API; 0: a free one"
    )
    max_body_bytes: int = Field(
        1_000_000, ge=1, description="largest request body that is read"
    )
    max_orders: int = Field(1_000, ge=1, description="most orders in one request")
    max_items: int = Field(10_000, ge=1, description="most items in one request")
    rate_limit: float | None = Field(
        2_000,
        gt=0,
        description="requests per second of one key and serving process, on average "
        "over 10 seconds; null: any number",
    )
    trusted_proxies: list[str] = Field(
        default_factory=list,
        description="addresses or networks of reverse proxies whose `X-Forwarded-For` "
        "is believed; none: nobody's is",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: list[str]) -> list[str]:
        for text in value:
            ip_network(text)
        return value


class Config(Section):
    """Everything that decides a run; saved as ``config.yaml`` with its artifacts."""

    artifacts: str = Field("artifacts", description="folder of the artifacts")
    seed: int = Field(42, ge=0, le=2**32 - 1, description="seed of everything random")
    csv_safety: Literal["names", "all", "off"] = Field(
        "names",
        description="text in CSV files that a spreadsheet would run as a formula gets "
        "an apostrophe before it: names of segments, all text (ids, too, which may "
        "then match other systems no more), or none",
    )
    data: DataConfig = Field(default_factory=DataConfig)
    sample: SampleConfig = Field(default_factory=SampleConfig)
    eligibility: EligibilityConfig = Field(default_factory=EligibilityConfig)
    features: FeaturesConfig = Field(default_factory=FeaturesConfig)
    scaling: ScalingConfig = Field(default_factory=ScalingConfig)
    autoencoder: AutoencoderConfig = Field(default_factory=AutoencoderConfig)
    clustering: ClusteringConfig = Field(default_factory=ClusteringConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    refresh: RefreshConfig = Field(default_factory=RefreshConfig)
    axes: AxesConfig = Field(default_factory=AxesConfig)
    store: StoreConfig = Field(default_factory=StoreConfig)

    def to_yaml(self) -> str:
        """Return the configuration as YAML for ``--config``, without passwords."""
        saved = self.model_dump(mode="json")
        return yaml.dump(saved, Dumper=YamlDumper, sort_keys=False, allow_unicode=True)


# Where options connect to.
_ADDRESSES = (
    "data.input",
    "axes.orders",
    "axes.items",
    "axes.lines",
    "store.url",
    "refresh.mlflow_uri",
)


def unaddressed(saved: Config) -> Config:
    """Return a saved configuration without the addresses in it.

    Whoever can write to a folder of artifacts could have put them there, so they are
    shown and never obeyed: the user names sources, stores and tracking servers. The
    source ``input`` without a file is what the model was trained on, wherever it lies.
    """
    tree = saved.model_dump()
    for key in _ADDRESSES:
        section, option = key.split(".")
        tree[section][option] = None
    if saved.data.source == "kaggle":
        tree["data"]["source"] = "input"
    return Config.model_validate(tree)


# What earlier versions saved with a model and no configuration may hold any more, by
# section, option and value, with what takes its place.
RETIRED = {("refresh", "retrain", "noise"): "policy"}


def updated_config(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration that was saved with a model as one of this version.

    Parameters
    ----------
    saved : mapping
        Sections with options, as ``manifest.json`` holds them.
    """
    tree = {**saved}
    for (section, option, value), replacement in RETIRED.items():
        options = tree.get(section)
        if isinstance(options, dict) and options.get(option) == value:
            tree[section] = {**options, option: replacement}
    return tree


ENV_PREFIX = "SEGMENTS_"
# Characters of a value that a message shows.
LONGEST = 60
# Options whose keys are names of columns.
COLUMN_MAPS = (
    "data.columns.",
    "axes.order_columns.",
    "axes.item_columns.",
    "axes.line_columns.",
)


def resolve_config(
    file: str | Path | None = None,
    flags: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    base: Config | None = None,
) -> Config:
    """Merge defaults (or `base`), file, environment and flags into one `Config`.

    Parameters
    ----------
    file : path, optional
        YAML file with any part of the configuration. One that was saved with artifacts
        means the folder that it lies in, whichever it names.
    flags : mapping of dotted key to value, optional
        From named flags such as ``--seed``; ``None`` values are ignored.
    assignments : sequence of str
        ``key=value`` texts from ``--set``; values are read as YAML.
    environ : mapping, optional
        Environment to look for ``SEGMENTS_*`` in; default ``os.environ``.
    base : Config, optional
        What to start from instead of the defaults, such as a saved configuration.

    Raises
    ------
    ConfigError
        For an unknown key (with the nearest known one), a value of the wrong type or
        outside its range, or a file that is not there or not YAML.
    """
    tree: dict[str, Any] = (base or Config()).model_dump()
    if file is not None:
        _merge(tree, _read_yaml(Path(file)), str(file))
        if (found := _found_by_place(Path(file))) is not None:
            tree["artifacts"] = str(found)
    env = os.environ if environ is None else environ
    for name in sorted(env):
        if name.startswith(ENV_PREFIX):
            key = name[len(ENV_PREFIX) :].lower().replace("__", ".")
            _assign(tree, key, _parse_value(key, env[name]), f"environment `{name}`")
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"`--set {_shown(text, str)}`: expected `key=value`.")
        where = f"`--set {_shown(text, str)}`"
        _assign(tree, key.strip(), _parse_value(key.strip(), value), where)
    for key, value in (flags or {}).items():
        if value is not None:
            _assign(tree, key, value, f"`--{key.rpartition('.')[2]}`")
    return build_config(tree)


def build_config(tree: Mapping[str, Any]) -> Config:
    """Validate a nested mapping; refuse unknown keys with the nearest known name.

    An input that is named is what is read: it makes the source ``input``.
    """
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None
    for key in _ADDRESSES:
        section, option = key.split(".")
        address = getattr(getattr(config, section), option)
        if address is not None and HIDDEN in address and "://" in address:
            raise ConfigError(
                f"`{key}` is `{address}`, as it was saved: without its password or "
                "signature. Give the whole address."
            )
    if config.data.input:
        data = config.data.model_copy(update={"source": "input"})
        config = config.model_copy(update={"data": data})
    return config


def option_keys(
    section: type[BaseModel] = Config, prefix: str = "", only: Sequence[Any] = ()
) -> list[str]:
    """Return every dotted key, such as ``clustering.min_samples``.

    With `only` those of options of these types.
    """
    keys: list[str] = []
    for name, info in section.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += option_keys(inner, f"{prefix}{name}.", only)
        elif not only or inner in only:
            keys.append(f"{prefix}{name}")
    return keys


def _merge(tree: dict[str, Any], update: Mapping[str, Any], where: str) -> None:
    """Merge `update` into `tree` key by key; a mapping merges into a mapping.

    A section that is there without an option changes nothing.
    """
    for key, value in update.items():
        if value is None and isinstance(tree.get(key), dict):
            continue
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _merge(tree[key], value, where)
        else:
            tree[str(key)] = dict(value) if isinstance(value, Mapping) else value


def _assign(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Put one value at a dotted key, which must be known."""
    known = option_keys()
    is_mapped_column = key.startswith(COLUMN_MAPS)
    if key not in known and not is_mapped_column:
        hint = _nearest(key, known)
        raise ConfigError(f"{where}: unknown key `{_shown(key, str)}`.{hint}")
    *parents, last = key.split(".", 2 if is_mapped_column else -1)
    for parent in parents:
        tree = tree[parent]
        if not isinstance(tree, dict):
            raise ConfigError(
                f"{where}: `{parent}` is {_shown(tree)} before that; expected a "
                "section of options."
            )
    if value is None and isinstance(tree.get(last), dict):
        value = {}
    tree[last] = value


def _nearest(key: str, known: Iterable[str]) -> str:
    """Return the nearest dotted key, looking at whole keys, then at last parts."""
    known = list(known)
    if hint := did_you_mean(key, known):
        return hint
    last = key.rpartition(".")[2]
    matches = {name.rpartition(".")[2]: name for name in known}
    hint = did_you_mean(last, matches)
    return (
        hint.replace(f"`{(n := hint.split('`')[1])}`", f"`{matches[n]}`")
        if hint
        else ""
    )


def _parse_value(key: str, text: str) -> Any:
    """Read a command-line or environment value as YAML; a bare text stays a text.

    So does a number for an option that is text, such as a column named `2024`.
    """
    try:
        value = read_yaml(text) if text.strip() else text
    except ValueError:
        return text
    is_text = key.startswith(COLUMN_MAPS) or key in option_keys(only=(str, str | None))
    return text if is_text and not isinstance(value, str | None) else value


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, or say what is wrong with the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"configuration file `{path}` does not exist.") from None
    except OSError as error:
        raise ConfigError(
            f"configuration file `{path}` cannot be read ({error.strerror or error})."
        ) from None
    except ValueError as error:
        raise ConfigError(
            f"configuration file `{path}` cannot be read ({error}). Expected YAML in "
            "UTF-8."
        ) from None
    try:
        content = read_yaml(text)
    except ValueError as error:
        raise ConfigError(
            f"configuration file `{path}` is not YAML: {error}."
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"configuration file `{path}` holds a {type(content).__name__}; "
            "expected sections such as `clustering:`."
        )
    return content


def _found_by_place(file: Path) -> Path | None:
    """Return the artifacts folder that a saved ``config.yaml`` lies in, if it does.

    A folder that was copied or moved is not the one that its file names.
    """
    try:
        saved = json.loads((file.parent / "manifest.json").read_text(encoding="utf-8"))
        is_axes = "axes" in saved["stages"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if file.name != "config.yaml":
        return None
    folder = file.parent
    if folder.name in {"pending", ".publishing"}:
        folder = folder.parent
    elif folder.parent.name == "versions":
        folder = folder.parent.parent
    return folder.parent if is_axes else folder


def _explain(error: ValidationError) -> str:
    """Turn pydantic's findings into one line each, in the house's grammar."""
    lines = []
    for item in error.errors():
        key = _shown(".".join(str(part) for part in item["loc"]), str)
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown key `{key}`.{_nearest(key, _known_near(key))}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            if item["type"] == "model_type":
                message = "expected a section of options"
            hint = ""
            if item["type"] == "literal_error":
                choices = item["ctx"]["expected"].split("'")[1::2]
                hint = did_you_mean(str(item["input"]), choices)
            lines.append(
                f"`{key}` is {_shown(item['input'])}: {message[0].lower()}"
                f"{message[1:]}."
                f"{hint}"
            )
    return "\n".join(lines)


def _shown(value: Any, form: Callable[[Any], str] = repr) -> str:
    """Return a value as messages show it: on one line, and not longer than that."""
    try:
        text = " ".join(form(value).split())
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _known_near(key: str) -> list[str]:
    """Return the keys and section names that an unknown key could have meant."""
    sections = list(Config.model_fields)
    return option_keys() if "." in key else sections + option_keys()
