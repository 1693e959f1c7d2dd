"""The options of every system, with units and defaults.

How they are set is `core.resolve`; ``docs/configuration.md`` is printed from here.
"""

from __future__ import annotations

import re
from datetime import date
from ipaddress import ip_network
from itertools import pairwise
from math import isfinite
from typing import Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from core.redaction import redacted_address
from core.yaml_text import YamlDumper

Policy = Literal["keep", "drop", "error"]


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
        "gone, whatever its rhythm; null: by its own rhythm, see `states`",
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
    engine: Literal["polars", "duckdb", "spark"] = Field(
        "polars",
        description="what evaluates the features; the results are equal; `spark`: see "
        "`spark`",
    )


class StatesConfig(Section):
    """How the state of a shop is told: new, active, reviving, slowing, lapsed."""

    rules: str = Field(
        "life-cycle", description="rule set: a built-in name, or a YAML file"
    )
    thresholds: dict[str, float] = Field(
        default_factory=dict,
        description="numbers for thresholds of the rules, by name; others are as the "
        "rules say, but that `lapsed_below` and `reviving_below` are learnt",
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
    fit_shops: int | None = Field(
        50_000,
        ge=100,
        description="most shops that scaler, autoencoder, clusters and partition are "
        "learnt from: those with the smallest hash of their id; the model assigns the "
        "others. null: all of them",
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

    @model_validator(mode="after")
    def _learns_from_enough(self) -> Self:
        if self.fit_shops is not None and self.fit_shops < self.n_needed:
            raise ValueError(
                f"`fit_shops` is {self.fit_shops:,}, but one cluster takes "
                f"{self.n_needed:,} (`min_cluster_size`, `min_samples`); expected as "
                "many, or null"
            )
        return self


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
        description="strength from which a month in a segment counts; weaker ones "
        "count as unassigned in movements",
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
        3, ge=2, le=100, description="refits that measure the stability of a new model"
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
                "choose `always` to refit everything, or `policy`"
            )
        return value


class ReportConfig(Section):
    """What the report of shops suggests."""

    playbook: str | None = Field(
        None, description="YAML file of what to do per segment; null: the built-in one"
    )


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
    playbook: str | None = Field(
        None, description="YAML file of what to do per segment; null: the built-in one"
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


class FitConfig(Section):
    """Segments of any feature table, and of recency, frequency and value: `fit`, `rfm`.

    How the orders of `rfm` are read is in `axes`.
    """

    table: str | None = Field(
        None,
        description="feature table, a row per customer: CSV (.gz), Parquet, Excel; "
        "file, folder, glob or s3://",
    )
    id: str | None = Field(None, description="column with the customer's id")
    categories: list[str] = Field(
        default_factory=list,
        description="numeric columns that stand for categories, such as codes",
    )
    drop: list[str] = Field(
        default_factory=list, description="columns to leave out, such as dates"
    )
    segments: int | None = Field(
        None,
        ge=1,
        le=100,
        description="number of segments; null: as many as there are groups with gaps "
        "between them, else the most that come back in refits",
    )
    max_segments: int = Field(
        10, ge=2, le=100, description="most segments that are looked for"
    )
    store: str = Field(
        "table",
        min_length=1,
        description="`store_id` that the profiles are kept under; `rfm` takes `rfm` "
        "unless another one is named",
    )


class ChannelSource(Section):
    """One sales channel: its order and item rows, and whose they are."""

    orders: str = Field(
        description="order rows: CSV (.gz), Parquet, Excel; file, folder, glob, s3://"
    )
    items: str = Field(description="item rows, as `orders`")
    customers: str | None = Field(
        None,
        description="map of the channel's `customer_id`, or of its `order_id`, to "
        "`central_id`; null: the channel's own ids are the central ones",
    )
    order_columns: dict[str, str] = Field(
        default_factory=dict,
        description="our name: your name, for `order_id`, `order_time`, `total_price` "
        "(before tax), `customer_id` (unless the map goes by orders), and optionally "
        "`store_id`, `discount_amount`, `promo_amount`, `has_query`, and "
        "`delivery_minutes` or `dispatched_time` and `delivered_time`",
    )
    item_columns: dict[str, str] = Field(
        default_factory=dict,
        description="the same for `order_id`, `item_id`, `quantity`, and optionally "
        "`price`, `is_promo`, `is_customised` and `header_item_id` (the row is a "
        "choice inside that item)",
    )
    customer_columns: dict[str, str] = Field(
        default_factory=dict,
        description="the same for `central_id`, and `customer_id` or `order_id`",
    )
    timezone: str | None = Field(
        None,
        description="zone of times without an offset, such as `UTC`; null: local times",
    )


class MicroPlanItem(Section):
    """Rule segments whose customers are clustered further, together."""

    name: str = Field(min_length=1, description="name of the item")
    source_segments: list[str] = Field(
        min_length=1, description="rule segments whose customers it takes"
    )
    features: list[str] = Field(
        default_factory=list,
        description="customer features to cluster on; none: shares of orders by kind, "
        "order value and discount",
    )
    k: int | None = Field(
        None, ge=1, description="number of micro-segments; null: as the data say"
    )
    cap: bool | None = Field(
        None,
        description="limit features to their 1st and 99th percentile in training; "
        "null: where the model is trained here",
    )
    model: str | None = Field(
        None,
        description="file of a converted model, see `import-models`; null: trained "
        "here",
    )
    enabled: bool = Field(True, description="whether it is run")


class ChannelsConfig(Section):
    """Customers over several channels, by rules and micro-segments: `channels`."""

    sources: dict[str, ChannelSource] = Field(
        default_factory=dict,
        description="the channels by name; none: the built-in sample",
    )
    features: str | None = Field(
        None,
        description="customer features made before, instead of `channels.sources`: "
        "CSV, Parquet, Excel; file, folder, glob, s3://",
    )
    id_column: str = Field(
        "customer_id",
        min_length=1,
        description="customer id in `channels.features` and `channels.outputs`",
    )
    outputs: dict[str, str] = Field(
        default_factory=dict,
        description="Parquet files to write besides, local or s3://: `segments`, "
        "`micro_segments`, `customer_features`, `order_features_CHANNEL`",
    )
    home: str | None = Field(
        None,
        description="channel whose customers are segmented; null: the first of them",
    )
    catalog: str | None = Field(
        None,
        description="item map: `item_id`, `driver_category`, `base_category`, and "
        "optionally `is_veg`; `Exclude` as a category leaves an item out; null: no "
        "categories are known",
    )
    catalog_columns: dict[str, str] = Field(
        default_factory=dict, description="our name: your name, of the item map"
    )
    stores: str | None = Field(
        None, description="details of stores by `store_id`; null: none are joined"
    )
    store_columns: dict[str, str] = Field(
        default_factory=dict, description="our name: your name, of the stores"
    )
    timezone: str = Field("UTC", description="local zone, such as `Asia/Kolkata`")
    run_date: str | None = Field(
        None,
        description="first day after the orders that count, ISO 8601; null: the day "
        "after the newest order",
    )
    months_offset: int = Field(
        27,
        ge=1,
        le=1200,
        description="months of orders before `run_date` that are read",
    )
    cutoff_date: str | None = Field(
        None,
        description="first day that customer features look at; null: 12 months before "
        "`run_date`, or `months_offset` if that is less",
    )
    price_bins: list[float] = Field(
        default_factory=lambda: [0.0, 150.0, 300.0, 500.0],
        description="lower bounds of the price buckets of an order's total, ascending",
    )
    price_labels: list[str] = Field(
        default_factory=lambda: ["Value", "Regular", "Plus", "Premium"],
        description="a name for each price bucket",
    )
    dayparts: dict[str, int] = Field(
        default_factory=lambda: {
            "Breakfast": 5,
            "Lunch": 11,
            "Evening": 16,
            "Dinner": 19,
            "Late_Night": 23,
        },
        description="first hour of each part of the day; the last reaches the first",
    )
    flags: list[str] = Field(
        default_factory=list,
        description="features turned into `*_flag` (above 0), beside those that the "
        "rules ask for",
    )
    rename: dict[str, str] = Field(
        default_factory=dict, description="feature: its name in the rules"
    )
    rules: str = Field(
        "order-bands", description="rule set: a built-in name, or a YAML file"
    )
    micro: list[MicroPlanItem] = Field(
        default_factory=list, description="plan of micro-segments"
    )
    micro_rename: dict[str, str] = Field(
        default_factory=dict,
        description="feature, as the rules call it: its name in micro-segments",
    )
    max_orders: int = Field(
        100, ge=1, description="customers with more orders in the home channel are left"
    )
    store: str = Field(
        "channels", min_length=1, description="`store_id` that the profiles go under"
    )
    playbook: str | None = Field(
        None, description="YAML file of what to do per segment; null: the built-in one"
    )
    contract: str | None = Field(
        None,
        description="YAML file of terms that the rule segments must keep; a run that "
        "breaks them publishes nothing",
    )
    sample_customers: int = Field(
        5000, ge=1, description="customers of the built-in sample"
    )

    @field_validator("run_date", "cutoff_date", mode="before")
    @classmethod
    def _days_as_text(cls, value: object) -> object:
        """Take `2025-07-01`, which YAML reads as a date."""
        return value.isoformat() if isinstance(value, date) else value

    @field_validator("sources")
    @classmethod
    def _can_name_columns(
        cls, value: dict[str, ChannelSource]
    ) -> dict[str, ChannelSource]:
        for name in value:
            if not re.fullmatch(r"\w+", name) or name == "omnichannel":
                raise ValueError(
                    f"`{name}` names columns; expected letters, digits and `_`, and "
                    "not `omnichannel`"
                )
        return value

    @field_validator("price_bins")
    @classmethod
    def _ascend(cls, value: list[float]) -> list[float]:
        is_finite = all(isfinite(number) for number in value)
        if not value or not is_finite or any(a >= b for a, b in pairwise(value)):
            raise ValueError("expected numbers, each greater than the one before")
        return value

    @field_validator("price_labels")
    @classmethod
    def _fit_the_bins(cls, value: list[str], info: ValidationInfo) -> list[str]:
        n_bins = len(info.data.get("price_bins", value))
        if len(value) != n_bins or len(set(value)) != n_bins:
            raise ValueError(
                f"expected {n_bins} different names, one for each of `price_bins`"
            )
        return value

    @field_validator("dayparts")
    @classmethod
    def _are_hours(cls, value: dict[str, int]) -> dict[str, int]:
        hours = set(value.values())
        if not value or len(hours) < len(value) or not hours <= set(range(24)):
            raise ValueError("expected different hours from 0 to 23, at least one")
        return value


class ExperimentOptions(Section):
    """What an experiment on the segments is planned for."""

    metric: str | None = Field(
        None,
        description="what it is to raise; null: the primary KPI of each segment's "
        "playbook",
    )
    effect: float = Field(
        0.1, gt=0, lt=10, description="smallest relative change that must be seen"
    )
    alpha: float = Field(0.05, gt=0, lt=0.5, description="chance of a false alarm")
    power: float = Field(0.8, gt=0.5, lt=1, description="chance to see the effect")


class BasketsConfig(Section):
    """Grocery baskets, by four rule segments and a clustering study: `baskets`."""

    source: str = Field(
        "sample",
        description="`sample`, `kaggle`, or a folder with `orders.csv`, "
        "`order_products__prior.csv`, `products.csv` and `aisles.csv`; "
        "`baskets.orders` goes before it",
    )
    orders: str | None = Field(None, description="orders; needs `baskets.items`")
    items: str | None = Field(
        None, description="items of the orders; the same file, if it has both"
    )
    products: str | None = Field(
        None, description="products with their aisles; null: no aisles are known"
    )
    aisles: str | None = Field(
        None, description="names of aisles; null: as `baskets.products` calls them"
    )
    order_columns: dict[str, str] = Field(
        default_factory=dict, description="our name: your name, of the orders"
    )
    item_columns: dict[str, str] = Field(
        default_factory=dict, description="our name: your name, of the items"
    )
    product_columns: dict[str, str] = Field(
        default_factory=dict, description="our name: your name, of the products"
    )
    aisle_columns: dict[str, str] = Field(
        default_factory=dict, description="our name: your name, of the aisles"
    )
    timezone: str = Field("UTC", description="local zone, such as `Europe/Paris`")
    min_orders: int = Field(
        5, ge=1, description="fewest orders of a customer who is segmented"
    )
    rules: str = Field(
        "basket-quadrants", description="rule set: a built-in name, or a YAML file"
    )
    playbook: str | None = Field(
        None, description="YAML file of what to do per segment; null: the built-in one"
    )
    store: str = Field(
        "baskets", min_length=1, description="`store_id` that the profiles go under"
    )
    contract: str | None = Field(
        None,
        description="YAML file of terms that the segments must keep; a run that breaks "
        "them publishes nothing",
    )
    lifts: str | None = Field(
        None,
        description="table of the lifts that experiments have found, as `experiment "
        "readout --lifts` writes it, for monitoring",
    )
    study: bool = Field(True, description="whether a run makes the clustering study")
    study_customers: int = Field(
        20_000, ge=50, description="most customers that the study looks at"
    )
    horizon_days: int = Field(
        60, ge=1, description="days after a cut that out-of-time validation looks at"
    )
    cuts: int = Field(3, ge=0, description="cuts of out-of-time validation")
    experiment: ExperimentOptions = Field(default_factory=ExperimentOptions)
    sample_customers: int = Field(
        2000, ge=1, description="customers of the built-in sample"
    )
    sample_structure: bool = Field(
        True, description="whether the sample's customers are of planted kinds"
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


class SparkConfig(Section):
    """Where Spark runs, and where it writes what is of everyone."""

    remote: str | None = Field(
        None,
        description="Spark Connect server, `sc://HOST:PORT`; null: the active session, "
        "or one as Spark's own configuration says",
    )
    output: str | None = Field(
        None,
        description="folder or address of Parquet files, or the beginning of tables' "
        "names such as `main.sales.all_`; null: `spark` in the artifacts folder, which "
        "other machines do not see",
    )
    fit_customers: int = Field(
        50_000,
        ge=100,
        description="customers that axes, channels and baskets are learnt from on "
        "Spark, those with the smallest hash of their id; everyone is assigned",
    )


class Config(Section):
    """Everything that decides a run; saved as ``config.yaml`` with its artifacts.

    Examples
    --------
    >>> config = Config(artifacts="results", clustering={"min_cluster_size": 30})
    >>> config.seed, config.clustering.min_cluster_size
    (42, 30)
    """

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
    states: StatesConfig = Field(default_factory=StatesConfig)
    scaling: ScalingConfig = Field(default_factory=ScalingConfig)
    autoencoder: AutoencoderConfig = Field(default_factory=AutoencoderConfig)
    clustering: ClusteringConfig = Field(default_factory=ClusteringConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    report: ReportConfig = Field(default_factory=ReportConfig)
    refresh: RefreshConfig = Field(default_factory=RefreshConfig)
    axes: AxesConfig = Field(default_factory=AxesConfig)
    fit: FitConfig = Field(default_factory=FitConfig)
    channels: ChannelsConfig = Field(default_factory=ChannelsConfig)
    baskets: BasketsConfig = Field(default_factory=BasketsConfig)
    store: StoreConfig = Field(default_factory=StoreConfig)
    spark: SparkConfig = Field(default_factory=SparkConfig)

    def to_yaml(self) -> str:
        """Return the configuration as YAML for ``--config``, without passwords."""
        saved = self.model_dump(mode="json")
        return yaml.dump(saved, Dumper=YamlDumper, sort_keys=False, allow_unicode=True)
