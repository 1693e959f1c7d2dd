"""How the options are set: defaults, file, environment and flags become one `Config`.

Each overrides the one before: the defaults of `core.config`, a YAML file
(``--config``), the environment (``SEGMENTS_CLUSTERING__MIN_CLUSTER_SIZE=30``), the
command line (``--set clustering.min_cluster_size=30``, ``--seed 7``). An unknown key is
refused wherever it comes from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from core.config import Config
from core.errors import ConfigError, did_you_mean
from core.redaction import HIDDEN
from core.yaml_text import read_yaml

# Where options connect to.
_ADDRESSES = (
    "data.input",
    "axes.orders",
    "axes.items",
    "axes.lines",
    "fit.table",
    "channels.sources",
    "channels.features",
    "channels.catalog",
    "channels.stores",
    "channels.outputs",
    "baskets.orders",
    "baskets.items",
    "baskets.products",
    "baskets.aisles",
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
        tree[section][option] = {} if isinstance(tree[section][option], dict) else None
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
    "channels.catalog_columns.",
    "channels.store_columns.",
    "channels.rename.",
    "channels.micro_rename.",
    "channels.outputs.",
    "baskets.order_columns.",
    "baskets.item_columns.",
    "baskets.product_columns.",
    "baskets.aisle_columns.",
)
# Below this, keys are names of channels.
CHANNELS = "channels.sources."


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

    Examples
    --------
    >>> resolve_config(assignments=["data.source=sample", "seed=7"], environ={}).seed
    7
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
    for key, address in _addresses(config):
        if address is not None and HIDDEN in address and "://" in address:
            raise ConfigError(
                f"`{key}` is `{address}`, as it was saved: without its password or "
                "signature. Give the whole address."
            )
    if config.data.input:
        data = config.data.model_copy(update={"source": "input"})
        config = config.model_copy(update={"data": data})
    return config


def _addresses(config: Config) -> Iterator[tuple[str, str | None]]:
    """Yield what the options connect to, each with its dotted key."""
    for key in _ADDRESSES:
        section, option = key.split(".")
        value = getattr(getattr(config, section), option)
        if not isinstance(value, dict):
            yield key, value
            continue
        for name, source in value.items():
            if isinstance(source, str):
                yield f"{key}.{name}", source
                continue
            for part in ("orders", "items", "customers"):
                yield f"{key}.{name}.{part}", getattr(source, part)


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
    is_source = key.startswith(CHANNELS)
    if key not in known and not is_mapped_column and not is_source:
        hint = _nearest(key, known)
        raise ConfigError(f"{where}: unknown key `{_shown(key, str)}`.{hint}")
    *parents, last = key.split(".", 2 if is_mapped_column else -1)
    for parent in parents:
        tree = tree.setdefault(parent, {}) if is_source else tree[parent]
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


_STORE_STAGES = frozenset({"axes", "channels", "baskets", "fit"})


def _found_by_place(file: Path) -> Path | None:
    """Return the artifacts folder that a saved ``config.yaml`` lies in, if it does.

    A folder that was copied or moved is not the one that its file names.
    """
    try:
        saved = json.loads((file.parent / "manifest.json").read_text(encoding="utf-8"))
        # These systems have a folder of their own for every store.
        is_of_a_store = not _STORE_STAGES.isdisjoint(saved["stages"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if file.name != "config.yaml":
        return None
    folder = file.parent
    if folder.name in {"pending", ".publishing"}:
        folder = folder.parent
    elif folder.parent.name == "versions":
        folder = folder.parent.parent
    return folder.parent if is_of_a_store else folder


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
