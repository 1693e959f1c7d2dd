"""One configuration out of defaults, file, environment and flags.

Each overrides the one before: the defaults of `core.config`, a YAML file
(``--config``), the environment (``SEGMENTS_CLUSTERING__MIN_CLUSTER_SIZE=30``), the
command line (``--set clustering.min_cluster_size=30``, ``--seed 7``). An unknown key is
refused wherever it comes from.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from core.config import Config
from core.errors import ConfigError, did_you_mean

ENV_PREFIX = "SEGMENTS_"
# Options whose keys are names of columns.
COLUMN_MAPS = ("data.columns.", "axes.order_columns.", "axes.item_columns.")


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
        YAML file with any part of the configuration.
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
    tree: dict[str, Any] = base.model_dump() if base is not None else {}
    if file is not None:
        _merge(tree, _read_yaml(Path(file)), str(file))
    env = os.environ if environ is None else environ
    for name in sorted(env):
        if name.startswith(ENV_PREFIX):
            key = name[len(ENV_PREFIX) :].lower().replace("__", ".")
            _assign(tree, key, _parse_value(env[name]), f"environment `{name}`")
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"`--set {text}`: expected `key=value`.")
        _assign(tree, key.strip(), _parse_value(value), f"`--set {text}`")
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
    if config.data.input:
        data = config.data.model_copy(update={"source": "input"})
        config = config.model_copy(update={"data": data})
    if config.data.source == "input" and not config.data.input:
        raise ConfigError(
            "`data.source` is `input`, but `data.input` names no file. "
            "Pass `--input PATH`."
        )
    return config


def option_keys(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Return every dotted key, such as ``clustering.min_samples``."""
    keys: list[str] = []
    for name, info in section.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += option_keys(inner, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def _merge(tree: dict[str, Any], update: Mapping[str, Any], where: str) -> None:
    """Merge `update` into `tree` key by key; a mapping merges into a mapping."""
    for key, value in update.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _merge(tree[key], value, where)
        else:
            tree[str(key)] = dict(value) if isinstance(value, Mapping) else value


def _assign(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Put one value at a dotted key, which must be known."""
    known = option_keys()
    is_mapped_column = key.startswith(COLUMN_MAPS)
    if key not in known and not is_mapped_column:
        raise ConfigError(f"{where}: unknown key `{key}`.{_nearest(key, known)}")
    *parents, last = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
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


def _parse_value(text: str) -> Any:
    """Read a command-line or environment value as YAML; a bare text stays a text."""
    try:
        return yaml.safe_load(text) if text.strip() else text
    except yaml.YAMLError:
        return text


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, or say what is wrong with the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"configuration file `{path}` does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file `{path}`: {error}.") from None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration file `{path}` is not YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"configuration file `{path}` holds a {type(content).__name__}; "
            "expected sections such as `clustering:`."
        )
    return content


def _explain(error: ValidationError) -> str:
    """Turn pydantic's findings into one line each, in the house's grammar."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown key `{key}`.{_nearest(key, _known_near(key))}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            hint = ""
            if item["type"] == "literal_error":
                choices = item["ctx"]["expected"].split("'")[1::2]
                hint = did_you_mean(str(item["input"]), choices)
            lines.append(
                f"`{key}` is {item['input']!r}: {message[0].lower()}{message[1:]}."
                f"{hint}"
            )
    return "\n".join(lines)


def _known_near(key: str) -> list[str]:
    """Return the keys and section names that an unknown key could have meant."""
    sections = list(Config.model_fields)
    return option_keys() if "." in key else sections + option_keys()
