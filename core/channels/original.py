"""The original's two JSON files, read as they are into our options.

A feature configuration has a section per channel, `customer` and `common`; a
segmentation configuration is flat. ``docs/channels.md`` lists every key with what it
becomes. What follows from the files but is not said in them is told as a note.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.channels.schema import SPECS
from core.channels.sections import Section, read_section
from core.config import Config
from core.errors import PROGRAM, ConfigError, SegmentsError, did_you_mean, listed
from core.resolve import build_config
from core.tables.files import counted

# As the original calls them, whatever the channels are called.
ID, TARGET, HOME = "algonomy_id", "ownapp_order_count", "ownapp"
ZONE = "Asia/Kolkata"
CAPPED = frozenset({"Seg1_5_6", "Seg_6_15_10", "Seg15_plus_9"})
CUSTOMER, COMMON = "customer", "common"
CONVERTED = ".safetensors"
NOT_NUMBERS = re.compile(r"channels_ordered_from|(\w+_)?(first|last)_order")

_LIST = r"(_columns|_cols|_list)?"
_AT = r"(_data)?(_path|_file|_file_path|_file_pattern|_pattern)?"
_MAP = r"_(map|mapping|mappings|details|master)"
# Our name for a key, and every spelling of it that is known; the first is the usual.
CHANNEL_KEYS = {
    "orders": ("orders_data_path", rf"orders?{_AT}"),
    "items": ("items_data_path", rf"(orders?_)?items?{_AT}"),
    "output": ("output_path", "output_path"),
    "order_columns": ("orders_columns", r"orders?_(columns|cols)"),
    "item_columns": ("items_columns", r"(orders?_)?items?_(columns|cols)"),
    "columns": ("columns", "columns|cols"),
}
SHARED_KEYS = {
    "customers": (
        "customer_mapping_path",
        rf"(centrali[sz]ed_|central_)?(customers?|invoices?)(_id)?({_MAP})?{_AT}",
    ),
    "timezone": ("timezone", r"time_?zone|tz"),
}
COMMON_KEYS = {
    "run_date": ("current_run_date", "current_run_date"),
    "months_offset": ("months_offset", "months_offset"),
    "bins": ("price_bins", "price_bins"),
    "labels": ("bucket_labels", "(price_)?bucket_labels"),
    "stores": ("store_mapping_path", rf"stores?(_id)?({_MAP})?{_AT}"),
    "catalog": (
        "item_mapping_path",
        rf"((items?|categor(y|ies)|products?|menu)(_categor(y|ies))?{_MAP}"
        rf"|catalog(ue)?){_AT}",
    ),
    "drivers": ("dri_category_columns", rf"(dri|driver)(_categor(y|ies))?{_LIST}"),
    "bases": ("base_category_columns", rf"base(_products?)?(_categor(y|ies))?{_LIST}"),
}
# Sections inside `common` whose keys may as well stand in `common` itself.
GROUPS = re.compile(r"mappings?(_paths?)?|categor(y|ies)(_columns|_cols|_lists?)?")
CUSTOMER_KEYS = {
    "cutoff_date": ("cutoff_date", "cutoff_date"),
    "output": ("output_path", "output_path"),
}
SEGMENTATION_KEYS = {
    name: (name, name)
    for name in (
        "input_path", "output_segments_path", "output_microsegments_path",
        "cols_to_keep", "convert_to_flag", "rename_dict", "rename_dict_microsegments",
        "micro_plan",
    )
}  # fmt: skip
MODEL_KEY = re.compile(r"segment_\w+_model")
# Options by the keys that they come from, for messages.
THEIRS = {
    "features": "input_path",
    "flags": "convert_to_flag",
    "rename": "rename_dict",
    "micro_rename": "rename_dict_microsegments",
    "micro": "micro_plan",
    "run_date": "current_run_date",
    "months_offset": "months_offset",
    "cutoff_date": "cutoff_date",
    "catalog": "item_mapping_path",
    "stores": "store_mapping_path",
    "timezone": "timezone",
}
PLAN_KEYS = ("name", "source_segments", "model_key", "enabled")


def read_original(
    features: str | None, segmentation: str | None, models: Path
) -> tuple[Config, list[str]]:
    """Return our configuration for the original's files.

    Parameters
    ----------
    features, segmentation : str or None
        Path or address of ``feature_pipeline_config.json`` and of
        ``segmentation_config.json``; not both None. Without the first, customer
        features are read from the second one's `input_path`.
    models : Path
        Folder of converted models, named by their `segment_*_model` key or as the
        pickle was.

    Returns
    -------
    (Config, list of str)
        The configuration, and what should be known of it.

    Raises
    ------
    ConfigError
        If a file is no JSON, or a key is unknown, missing or has a value that cannot
        be meant; names file and key, and says how to mend it.
    SourceError
        If a file is not there.
    """
    options: dict[str, Any] = {"id_column": ID, "outputs": {}}
    notes: list[str] = []
    if features is not None:
        _take_features(read_section(features), options, notes)
    if segmentation is not None:
        _take_segmentation(read_section(segmentation), options, notes, models)
    try:
        with in_their_words():
            return build_config({"channels": options}), notes
    except ConfigError as error:
        given = [name for name in (features, segmentation) if name is not None]
        raise ConfigError(f"{listed(given)}: {error}") from None


@contextmanager
def in_their_words() -> Iterator[None]:
    """Name options in errors by the keys that they came from, too."""
    try:
        yield
    except SegmentsError as error:
        said = re.sub(
            r"`channels\.(\w+)`",
            lambda found: (
                f"`{THEIRS[found[1]]}` (here `channels.{found[1]}`)"
                if found[1] in THEIRS
                else found[0]
            ),
            str(error),
        )
        raise type(error)(said) from None


def _take_features(file: Section, options: dict[str, Any], notes: list[str]) -> None:
    """Take the feature configuration."""
    sections = {}
    for name, content in file.content.items():
        if not isinstance(content, dict):
            raise file.wrong(name, 'a section of keys, such as {"output_path": "..."}')
        sections[name] = Section(f"{file.where}, `{name}`", content)
        if not re.fullmatch(r"\w+", name):
            raise ConfigError(
                f"{file.where}: the section `{name}` names columns of features; "
                "expected letters, digits and `_`."
            )
    common = sections.pop(COMMON, Section(f"{file.where}, `{COMMON}`", {}))
    customer = sections.pop(CUSTOMER, Section(f"{file.where}, `{CUSTOMER}`", {}))
    if not sections:
        raise ConfigError(
            f"{file.where} has no channel: no section beside `customer` and `common`. "
            'Expected one for each, such as "ownapp": {"orders_data_path": "..."}.'
        )
    shared = _take_common(common, options, notes)
    if key := customer.find(CUSTOMER_KEYS, "cutoff_date"):
        options["cutoff_date"] = customer.day(key)
    if key := customer.find(CUSTOMER_KEYS, "output"):
        options["outputs"]["customer_features"] = customer.place(key)
    # The original links the outputs of the channels by itself.
    customer.used.update(
        key for key in customer.content if key.removesuffix("_output_path") in sections
    )
    customer.check_keys([usual for usual, _ in CUSTOMER_KEYS.values()])
    options["sources"] = {}
    for name, section in sections.items():
        options["sources"][name] = _channel(section, shared)
        _take_maps(section, options)
        if key := section.find(CHANNEL_KEYS, "output"):
            options["outputs"][f"order_features_{name}"] = section.place(key)
        known = CHANNEL_KEYS | SHARED_KEYS
        section.check_keys([usual for usual, _ in known.values()])
    options["home"] = HOME if HOME in sections else next(iter(sections))


def _take_common(
    common: Section, options: dict[str, Any], notes: list[str]
) -> dict[str, str]:
    """Take what holds for all channels, and return what a channel may say itself."""
    for group in [key for key in common.content if GROUPS.fullmatch(key)]:
        if isinstance(inner := common.content[group], dict):
            del common.content[group]
            # A map of items is called `item` there.
            inner = {f"{k}_mapping" if k == "item" else k: v for k, v in inner.items()}
            if twice := sorted(inner.keys() & common.content.keys()):
                raise ConfigError(
                    f"{common.where}: {listed(twice)} is in `{group}` and outside it. "
                    "Keep one of them."
                )
            common.content |= inner
    if key := common.find(COMMON_KEYS, "run_date"):
        options["run_date"] = common.day(key)
    if key := common.find(COMMON_KEYS, "months_offset"):
        options["months_offset"] = common.whole(key)
    _take_maps(common, options)
    for name in ("drivers", "bases"):
        if key := common.find(COMMON_KEYS, name):
            common.texts(key)
            notes.append(f"`{key}` is not needed: the item map says which there are.")
    _take_prices(common, options)
    shared = {
        name: common.place(key)
        for name in SHARED_KEYS
        if (key := common.find(SHARED_KEYS, name))
    }
    options["timezone"] = shared.pop("timezone", ZONE)
    if not common.find(SHARED_KEYS, "timezone"):
        notes.append(
            f"No `timezone` in `{COMMON}`: local times are those of {ZONE}, as in the "
            "original. For others: `--set channels.timezone=NAME`."
        )
    known = COMMON_KEYS | SHARED_KEYS
    common.check_keys([usual for usual, _ in known.values()])
    return shared


def _take_maps(section: Section, options: dict[str, Any]) -> None:
    """Take the maps of items and stores, which are the same for all channels."""
    for name in ("catalog", "stores"):
        key = section.find(COMMON_KEYS, name)
        if key is None:
            continue
        place = section.place(key)
        if options.setdefault(name, place) != place:
            raise ConfigError(
                f"{section.where}: `{key}` is `{place}`, and elsewhere "
                f"`{options[name]}`. All channels share one: put both into one table."
            )


def _take_prices(common: Section, options: dict[str, Any]) -> None:
    """Take price buckets: as many labels as bins, or one less, as `pandas.cut` has."""
    bins = common.find(COMMON_KEYS, "bins")
    labels = common.find(COMMON_KEYS, "labels")
    if bins is None and labels is None:
        return
    if bins is None or labels is None:
        there, missing = (labels, "price_bins") if labels else (bins, "bucket_labels")
        raise ConfigError(
            f"{common.where}: `{there}` is given without `{missing}`. Give both: a "
            "label for the range between two bins."
        )
    bounds, names = common.numbers(bins), common.texts(labels)
    names = [name.removesuffix("_price") for name in names]
    if len(bounds) == len(names) + 1 and math.isfinite(bounds[-1]):
        # In the original an order beyond the last bin is in no bucket.
        names.append(f"above_{bounds[-1]:g}")
    elif math.isinf(bounds[-1]):
        bounds.pop()
    if len(bounds) != len(names):
        raise ConfigError(
            f"{common.where}: `{labels}` has {counted(len(names), 'label')} for "
            f"{len(common.content[bins])} `{bins}`; expected a label for each range "
            "between two bins."
        )
    options["price_bins"], options["price_labels"] = bounds, names


def _channel(section: Section, shared: Mapping[str, str]) -> dict[str, Any]:
    """Return a channel's part of our options."""
    source: dict[str, Any] = dict(shared)
    for name in ("orders", "items"):
        key = section.find(CHANNEL_KEYS, name)
        if key is None:
            usual = CHANNEL_KEYS[name][0]
            raise ConfigError(
                f"{section.where} names no {name}. Add `{usual}`, a path or address, "
                f"or `{name}_file_pattern` for many files."
            )
        source[name] = section.place(key)
    for name in SHARED_KEYS:
        if key := section.find(SHARED_KEYS, name):
            source[name] = section.place(key)
    for name, table in (("order_columns", "orders"), ("item_columns", "items")):
        ours = [column.name for column in SPECS[table].columns]
        if key := section.find(CHANNEL_KEYS, name):
            source[name] = _columns(section, key, ours)
        elif key := section.find(CHANNEL_KEYS, "columns"):
            both = [c.name for name in ("orders", "items") for c in SPECS[name].columns]
            found = _columns(section, key, both)
            source[name] = {name: found[name] for name in ours if name in found}
    return source


def _columns(section: Section, key: str, ours: Sequence[str]) -> dict[str, str]:
    """Return our name: theirs; a list only says which columns there are."""
    if isinstance(section.content[key], list):
        section.texts(key)
        return {}
    mapping = section.mapping(key)
    if not set(mapping) <= set(ours):
        mapping = {value: name for name, value in mapping.items()}
    if unknown := [name for name in mapping if name not in ours]:
        raise ConfigError(
            f"{section.where}: `{key}` maps {listed(unknown)}, which is no column of "
            f"ours.{did_you_mean(unknown[0], ours)} Ours: {listed([*ours], 20)}."
        )
    return mapping


def _take_segmentation(
    file: Section, options: dict[str, Any], notes: list[str], models: Path
) -> None:
    """Take the segmentation configuration."""
    keys = {name: file.find(SEGMENTATION_KEYS, name) for name in SEGMENTATION_KEYS}
    paths = {key: file.place(key) for key in file.content if MODEL_KEY.fullmatch(key)}
    file.used.update(paths)
    file.check_keys([*SEGMENTATION_KEYS, "segment_*_model"])
    if "sources" not in options:
        if keys["input_path"] is None:
            raise ConfigError(
                f"{file.where} has no `input_path`. Name the table of customer "
                "features there, or give `--feature-config`, which makes it."
            )
        options["features"] = file.place("input_path")
    elif keys["input_path"] is not None:
        made = options["outputs"].get("customer_features")
        if file.place("input_path") != made:
            notes.append(
                "`input_path` is not read: customer features are made by this run. To "
                "read it, leave `--feature-config` out."
            )
    for name, ours in (
        ("output_segments_path", "segments"),
        ("output_microsegments_path", "micro_segments"),
    ):
        if keys[name] is not None:
            options["outputs"][ours] = file.place(name)
    kept = file.texts("cols_to_keep") if keys["cols_to_keep"] else []
    flags = file.texts("convert_to_flag") if keys["convert_to_flag"] else []
    options["flags"] = [name for name in flags if name != ID]
    for name, ours in (
        ("rename_dict", "rename"),
        ("rename_dict_microsegments", "micro_rename"),
    ):
        options[ours] = _renames(file, name) if keys[name] else {}
    if keys["micro_plan"]:
        features = _micro_features(kept, options)
        plan = _Plan(file, paths, features, models, notes)
        options["micro"] = [plan.item(place) for place in range(plan.length)]


def _renames(file: Section, key: str) -> dict[str, str]:
    """Return new names by old ones, of which no two are equal."""
    found = {flag_name(old): new for old, new in file.mapping(key).items()}
    found = {old: new for old, new in found.items() if old != new}
    new_names = list(found.values())
    if repeated := sorted({n for n in new_names if new_names.count(n) > 1}):
        raise ConfigError(
            f"{file.where}: `{key}` gives the name {listed(repeated)} to several "
            "columns. Give each a name of its own."
        )
    if ID in found or ID in new_names:
        raise ConfigError(
            f"{file.where}: `{key}` renames `{ID}`, which has to stay. Take it out."
        )
    return found


def flag_name(name: str) -> str:
    """Return the name of a flag without the words that it counted orders.

    >>> flag_name("Lunch_order_count_flag")
    'Lunch_flag'
    """
    return re.sub(r"_order_count_flag$", "_flag", name)


def _micro_features(kept: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """Return the columns that customers are divided by, as micro-segments call them."""
    columns = [name for name in kept if name not in options["flags"]]
    columns += [flag_name(f"{name}_flag") for name in options["flags"]]
    found = []
    for column in columns:
        name = column.removeprefix("omnichannel_")
        name = options["rename"].get(name, name)
        name = options["micro_rename"].get(name, name)
        if column not in (ID, TARGET) and not NOT_NUMBERS.fullmatch(column):
            found.append(name)
    return found


@dataclass
class _Plan:
    """The plan of micro-segments of a file, and what its items may refer to."""

    file: Section
    paths: Mapping[str, str]
    features: Sequence[str]
    models: Path
    notes: list[str]

    @property
    def length(self) -> int:
        """Return the number of items."""
        items = self.file.content["micro_plan"]
        if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
            raise self.file.wrong(
                "micro_plan", 'a list of items such as {"name": ..., "model_key": ...}'
            )
        return len(items)

    def item(self, place: int) -> dict[str, Any]:
        """Return an item as our options have it."""
        content = self.file.content["micro_plan"][place]
        item = Section(f"{self.file.where}, `micro_plan` item {place + 1}", content)
        item.used.update(PLAN_KEYS)
        item.check_keys(PLAN_KEYS)
        for key in PLAN_KEYS[:3]:
            if key not in content:
                raise ConfigError(f"{item.where} has no `{key}`. Add it.")
        sources = item.texts("source_segments")
        if not sources:
            raise item.wrong("source_segments", 'rule segments, such as ["Seg1_5_1"]')
        enabled = content.get("enabled", True)
        if not isinstance(enabled, bool):
            raise item.wrong("enabled", "true or false")
        name = item.text("name", 'a name such as "Seg1_5_1_and_2"')
        found = {
            "name": name,
            "source_segments": sources,
            "cap": not CAPPED.isdisjoint(sources),
            "enabled": enabled,
        }
        return found | self._model(item, name, enabled=enabled)

    def _model(self, item: Section, name: str, *, enabled: bool) -> dict[str, Any]:
        """Return where the item's model is, or what to train one of ours on."""
        key = item.text("model_key", 'a key such as "segment_1_5_3_model"')
        if key not in self.paths:
            hint = did_you_mean(key, self.paths)
            raise ConfigError(
                f"{item.where}: `model_key` is `{key}`, and the file has no such key."
                f"{hint} Add `{key}` with the model's path, as `segment_*_model`."
            )
        address = self.paths[key]
        if address.endswith(CONVERTED):
            return {"model": address}
        beside = Path(address).with_suffix(CONVERTED)
        for converted in (beside, self.models / beside.name):
            if converted.is_file():
                return {"model": converted.as_posix()}
        if enabled:
            self.notes.append(
                f"`{name}` is trained again: `{key}` is a pickle, which is not opened "
                f"here. To use it: `{PROGRAM} channels import-models {address} --to "
                f"{self.models.as_posix()}`, and run again."
            )
        return {"features": list(self.features)}
