"""How results show themselves: one line of text, and a small table in notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape


@dataclass(frozen=True)
class Shown:
    """What a result says of itself.

    Attributes
    ----------
    facts : mapping of str to object
        A few figures by name, for both forms.
    rows : sequence of mappings
        A table for notebooks; all rows have the same columns.
    lines : sequence of str
        Sentences under it.
    """

    facts: Mapping[str, object]
    rows: Sequence[Mapping[str, object]] = ()
    lines: Sequence[str] = field(default=())


class Displayed:
    """Base of results that may hold much and show little.

    A dataclass below it is declared with ``repr=False``.
    """

    def _shown(self) -> Shown:
        raise NotImplementedError

    def __repr__(self) -> str:
        facts = (f"{name}={value!r}" for name, value in self._shown().facts.items())
        return f"{type(self).__name__}({', '.join(facts)})"

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        """Return what Jupyter shows."""
        shown = self._shown()
        facts = (
            f"{name.replace('_', ' ')} {value}" for name, value in shown.facts.items()
        )
        title = f"<b>{type(self).__name__}</b> {escape(' · '.join(facts))}"
        lines = "".join(f"<div>{escape(line)}</div>" for line in shown.lines)
        return f"<div>{title}{_table(shown.rows)}{lines}</div>"


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as HTML; nothing for none."""
    if not rows:
        return ""
    head = _row("th", rows[0])
    body = "".join(_row("td", row.values()) for row in rows)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _row(tag: str, cells: Iterable[object]) -> str:
    shown = "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells)
    return f"<tr>{shown}</tr>"
