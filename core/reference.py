"""The reference pages in ``docs/``, printed from the code that they describe."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from core.config import Config
from core.features.retailer import FEATURE_SETS, VOLUME, Feature


def configuration_page() -> str:
    """Return ``docs/configuration.md``: every option, its values and its default."""
    lines = [
        "# Configuration",
        "",
        "Printed by `segments config --markdown`. Each option can stand in a YAML file",
        "(`--config`), in the environment (`SEGMENTS_CLUSTERING__MIN_SAMPLES=5`) or on",
        "the command line (`--set clustering.min_samples=5`); the later wins. An",
        "unknown key is refused with the nearest known one. The resolved configuration",
        "is saved as `config.yaml` with the artifacts.",
        "",
        "| option | values | default | meaning |",
        "|---|---|---|---|",
        *_option_rows(Config, ""),
    ]
    return "\n".join(lines) + "\n"


def features_page() -> str:
    """Return ``docs/features.md``: every feature with formula, unit and null."""
    lines = [
        "# Features",
        "",
        "Printed by `segments features`. A month is *active* when the shop's net",
        "quantity in it is above 0. Null is replaced by the median of the training",
        "shops before clustering.",
    ]
    titles = {
        "behaviour": "how a shop sells, not how much (the default)",
        "baseline": "the reference's 29, for comparison",
    }
    for chosen in FEATURE_SETS.values():
        heading = f"`{chosen.name}`: {titles[chosen.name]}"
        lines += _feature_table(heading, chosen.features)
    lines += _feature_table("Sales volume: for profiles only, never clustered", VOLUME)
    return "\n".join(lines) + "\n"


def _feature_table(heading: str, features: tuple[Feature, ...]) -> list[str]:
    """Return a section with one row per feature."""
    lines = ["", f"## {heading}", "", "| feature | formula | unit | null |"]
    lines.append("|---|---|---|---|")
    return lines + [
        f"| `{f.name}` | {f.formula} | {f.unit} | {f.null} |" for f in features
    ]


def _option_rows(section: type[BaseModel], prefix: str) -> list[str]:
    """Return one table row per option of a section."""
    rows = []
    for name, info in section.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            rows += _option_rows(inner, f"{prefix}{name}.")
            continue
        default = _as_yaml(_default(info))
        cells = (f"`{prefix}{name}`", _values(info), f"`{default}`", info.description)
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return rows


def _default(info: FieldInfo) -> Any:
    """Return the default of an option."""
    value = info.get_default(call_default_factory=True)
    return None if value is PydanticUndefined else value


def _as_yaml(value: Any) -> str:
    """Return a value as it would stand in the file."""
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


def _values(info: FieldInfo) -> str:
    """Return the type of an option and its bounds in words."""
    bounds = []
    for rule in info.metadata:
        for attribute, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
            if (bound := getattr(rule, attribute, None)) is not None:
                bounds.append(f"{sign} {bound}")
    return ", ".join([_type_name(info.annotation), *bounds])


def _type_name(annotation: Any) -> str:
    """Return a type in words."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in {Union, types.UnionType}:
        return " or ".join(_type_name(part) for part in get_args(annotation))
    if get_origin(annotation) is dict:
        return "mapping"
    names = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return names.get(annotation, "null")
