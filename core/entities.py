"""What a system segments: its word, and its columns of ids and of size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

COUNT = "n_entities"


@dataclass(frozen=True)
class Entity:
    """The terms of one kind of entity, defined once by its system.

    Attributes
    ----------
    id_column : str
        Column of its ids, such as ``shop_id``.
    noun, plural : str
        One and several of them in messages, such as "shop" and "shops".
    size_column : str
        Feature that says how large one is, from 0.
    """

    id_column: str
    noun: str
    plural: str
    size_column: str

    @property
    def count_column(self) -> str:
        """Column or key of a number of them in saved files, such as ``n_shops``."""
        return f"n_{self.plural}"

    def named_table(self, table: pl.DataFrame) -> pl.DataFrame:
        """Return a table with ``n_entities`` under the `count_column`."""
        return table.rename({COUNT: self.count_column}, strict=False)

    def named_facts(self, facts: Any) -> Any:
        """Return plain values with ``n_entities`` under the `count_column`, nested too.

        >>> shop = Entity("shop_id", "shop", "shops", "volume")
        >>> shop.named_facts({"test": {"n_entities": 3}})
        {'test': {'n_shops': 3}}
        """
        if isinstance(facts, Mapping):
            return {
                self.count_column if key == COUNT else key: self.named_facts(value)
                for key, value in facts.items()
            }
        if isinstance(facts, list | tuple):
            return type(facts)(self.named_facts(value) for value in facts)
        return facts
