"""JSON files with checks of keys and values: what is wrong is named with its cure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import Any

from core.errors import ConfigError, did_you_mean, listed
from core.scratch import temporary_folder
from core.tables.files import find_files


@dataclass
class Section:
    """Keys and values of a file, or of a section of it, with checks of their kinds.

    Attributes
    ----------
    where : str
        How messages call it, up to the key.
    content : dict
    used : set of str
        Keys that were asked for.
    """

    where: str
    content: dict[str, Any]
    used: set[str] = field(default_factory=set)

    def find(self, keys: Mapping[str, tuple[str, str]], name: str) -> str | None:
        """Return the key that stands for a name of ours; None without one."""
        pattern = keys[name][1]
        found = [key for key in self.content if re.fullmatch(pattern, key)]
        if len(found) > 1:
            raise ConfigError(
                f"{self.where}: {listed(found)} say the same. Keep one of them."
            )
        self.used.update(found)
        return found[0] if found else None

    def check_keys(self, known: Iterable[str]) -> None:
        """Refuse keys that nobody asked for."""
        unknown = [key for key in self.content if key not in self.used]
        if unknown:
            hint = did_you_mean(unknown[0], known)
            hint = hint or f" Known: {listed([*known], 20)}."
            raise ConfigError(
                f"{self.where}: unknown key {listed(unknown)}.{hint} Rename it, or "
                "take it out if segments do not depend on it."
            )

    def wrong(self, key: str, expected: str) -> ConfigError:
        """Return the error for a value that cannot be meant."""
        value = json.dumps(self.content[key], ensure_ascii=False)
        shown = value if len(value) <= 60 else f"{value[:57]}..."
        return ConfigError(f"{self.where}: `{key}` is {shown}; expected {expected}.")

    def text(self, key: str, expected: str) -> str:
        """Return a text that is not empty."""
        value = self.content[key]
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, expected)
        return value

    def place(self, key: str) -> str:
        """Return a path or address."""
        return self.text(key, 'a path or address, such as "s3://bucket/rows.parquet"')

    def day(self, key: str) -> str:
        """Return a date as ISO 8601."""
        expected = 'a date such as "2025-07-01"'
        try:
            return date.fromisoformat(self.text(key, expected)[:10]).isoformat()
        except ValueError:
            raise self.wrong(key, expected) from None

    def whole(self, key: str) -> int:
        """Return a whole number of at least 1."""
        value = self.content[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(key, "a whole number of months, such as 27")
        return value

    def numbers(self, key: str) -> list[float]:
        """Return two or more ascending numbers; null at the end is no limit."""
        values = self.content[key]
        if isinstance(values, list) and values[-1:] == [None]:
            values = [*values[:-1], math.inf]
        if (
            not isinstance(values, list)
            or not all(isinstance(value, int | float) for value in values)
            or len(values) < 2
            or not all(low < high for low, high in pairwise(values))
        ):
            raise self.wrong(key, "ascending numbers, such as [0, 150, 300, 500]")
        return [float(value) for value in values]

    def texts(self, key: str) -> list[str]:
        """Return different texts."""
        values = self.content[key]
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise self.wrong(key, 'a list of texts, such as ["ownapp_order_count"]')
        if repeated := sorted({v for v in values if values.count(v) > 1}):
            raise ConfigError(
                f"{self.where}: `{key}` names {listed(repeated)} more than once. Keep "
                "one of each."
            )
        return values

    def mapping(self, key: str) -> dict[str, str]:
        """Return texts by text."""
        values = self.content[key]
        if not isinstance(values, dict) or not all(
            isinstance(value, str) for value in values.values()
        ):
            raise self.wrong(key, 'names by name, such as {"old": "new"}')
        return values


def read_section(address: str) -> Section:
    """Return the content of a file, which must be an object of JSON."""
    with temporary_folder() as work:
        files, name = find_files(address, work)
        try:
            text = files[0].path.read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"`{name}` cannot be read ({error}). Expected JSON in UTF-8."
            ) from None
    try:
        content = json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        raise ConfigError(f"`{name}` is not JSON: {_fault(text, error)}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"`{name}` cannot be used: {error}.") from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"`{name}` holds a {type(content).__name__}; expected an object in braces, "
            'such as {"input_path": "features.parquet"}.'
        )
    return Section(f"`{name}`", content)


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object whose keys differ, which JSON does not ask for."""
    keys = [key for key, _ in pairs]
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"{listed(repeated)} appears twice in one section; keep one")
    return dict(pairs)


def _fault(text: str, error: json.JSONDecodeError) -> str:
    """Return where JSON ends to be JSON, and what usually mends it."""
    before = text[: error.pos]
    keys = re.findall(r'"([^"\n]*)"\s*:', before)
    near = f", after the key `{keys[-1]}`" if keys else ""
    after = text[error.pos :].lstrip()
    # Before Python 3.13 the fault is what follows the comma, and then the comma.
    comma = re.search(r",\s*([}\]])$", before[-80:] + after[:1]) or re.match(
        r",\s*([}\]])", after
    )
    if comma:
        cure = f"take out the comma before `{comma[1]}`"
    elif after.startswith("..."):
        cure = "`...` stands for more keys in the documentation; write them out"
    elif after[:1] in ("/", "#"):
        cure = "take out the comment, which JSON does not have"
    elif after[:1] == "'":
        cure = 'write texts in double quotes (")'
    elif not text.strip():
        cure = "it is empty"
    elif not after:
        cure = "the file is cut off; close every brace and bracket"
    else:
        cure = "look for a missing comma, quote or brace before it"
    return f"line {error.lineno}, column {error.colno}{near}: {cure}."
