"""Contracts as YAML files: read with the line of every fault, and written.

Nothing but plain values is read: a tag that would make an object is refused by YAML's
safe loader.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from core.errors import ConfigError, did_you_mean
from core.segments.contract_terms import Contract, SegmentTerms, Terms, UnassignedTerms

_HEADER = """\
# What these segments must keep. Checked by `segments contract check`, and by
# `segments refresh` before a new model is published (`refresh.contract`).
# Every number is yours to change; leave a key out to demand nothing.
"""


def read_contract(path: str | Path) -> Contract:
    """Read a contract.

    Parameters
    ----------
    path : path
        A YAML file, UTF-8.

    Raises
    ------
    ConfigError
        If the file is missing, not YAML, or holds an unknown, repeated, missing or
        impossible key; the message names file, line and key.
    """
    file = Path(path)
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise ConfigError(
            f"contract file `{file}` does not exist. Write one with `segments contract "
            "draft`."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"contract file `{file}`: {error}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"contract file `{file}` is not YAML: {error}") from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(
            f"contract file `{file}` holds no keys; expected `owner`, `expires` and "
            "what segments must keep. `segments contract draft` writes one."
        )
    faults = [f"{file}, line {line}: {said}" for line, said in _repeated(root)]
    if faults:
        raise ConfigError("\n".join(faults))
    try:
        values = yaml.SafeLoader("").construct_document(root)
        return Contract.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explained(error, file, root)) from None
    except (yaml.YAMLError, ValueError) as error:  # a day such as 2026-02-30
        raise ConfigError(f"contract file `{file}` is not YAML: {error}") from None


def contract_text(contract: Contract) -> str:
    """Return a contract as YAML; `read_contract` reads the same one from it."""
    values = _plain(contract.model_dump(exclude_none=True))
    return _HEADER + yaml.dump(
        values, Dumper=_Dumper, sort_keys=False, allow_unicode=True
    )


class _Dumper(yaml.SafeDumper):
    """Writes bands and other short lists on one line."""


def _represent_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    is_flat = all(not isinstance(item, dict) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=is_flat)


_Dumper.add_representer(list, _represent_list)


def _plain(value: Any) -> Any:
    """Leave out what is empty, name what is told of first, make tuples lists."""
    if isinstance(value, dict):
        first = {key: value[key] for key in ("id", "name") if key in value}
        inner = {key: _plain(item) for key, item in (first | value).items()}
        return {key: item for key, item in inner.items() if item not in ({}, [])}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _repeated(root: yaml.Node) -> Iterator[tuple[int, str]]:
    """Yield line and finding of every key that one mapping has twice.

    YAML takes the last one without a word.
    """
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop(0)
        if id(node) in seen:  # an alias of what was looked at, perhaps of its parent
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if str(key.value) in first:
                    other = first[str(key.value)]
                    yield line, f"key `{key.value}` is also on line {other}."
                first.setdefault(str(key.value), line)
                waiting.append(value)


def _explained(error: ValidationError, file: Path, root: yaml.Node) -> str:
    """Turn pydantic's findings into one line each, with file, line and key."""
    lines = []
    for item in error.errors():
        loc = item["loc"]
        key = ".".join(str(part) for part in loc)
        where = f"{file}, line {_line(root, loc)}"
        if item["type"] == "extra_forbidden":
            hint = did_you_mean(str(loc[-1]), _model_at(loc).model_fields)
            lines.append(f"{where}: unknown key `{key}`.{hint}")
        elif item["type"] == "missing":
            lines.append(f"{where}: `{key}` is missing. Add it.")
        else:
            said = item["msg"].removeprefix("Value error, ")
            named = f"`{key}` is {item['input']!r}: " if loc else ""
            lines.append(f"{where}: {named}{said[0].lower()}{said[1:]}.")
    return "\n".join(lines)


def _line(node: yaml.Node, loc: Sequence[int | str]) -> int:
    """Return the line, from 1, of what lies deepest on a path of keys and places."""
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            inner = next((v for k, v in node.value if k.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            inner = node.value[part] if part < len(node.value) else None
        else:
            inner = None
        if inner is None:
            break
        node = inner
    return int(node.start_mark.line) + 1


def _model_at(loc: Sequence[int | str]) -> type[BaseModel]:
    """Return the model that a faulty key belongs to."""
    models: dict[str, type[BaseModel]] = {
        "segments": SegmentTerms,
        "defaults": Terms,
        "unassigned": UnassignedTerms,
    }
    return models.get(str(loc[0]), Contract) if len(loc) > 1 else Contract
