"""Pages of HTML: parts, tables, pictures, and the templates that show them."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import ArtifactError
from core.reporting.text import (
    count,
    decimal,
    enumerated,
    literal,
    marked,
    plural,
    probability,
    rounded,
    share,
    spoken,
)

_SHARED = Path(__file__).parent / "templates"
_SCRIPT = _SHARED / "page.js"


class Templates:
    """The templates of one system, over those that all pages share.

    Parameters
    ----------
    folder : Path
        The system's own; ``core/reporting/templates`` has the shared ones.

    Notes
    -----
    In templates of HTML (``.html`` in the name) whatever is filled in is escaped; in
    others it stands as it is. All have the filters ``count`` and ``decimal``
    of `core.reporting.text`, ``plural`` (a noun in, "3 shops" out),
    ``enumerated`` (words as a sentence joins them), ``form`` (a format of Python),
    ``rounded`` and ``share`` (two significant digits), ``spoken`` (a name in words),
    ``literal`` and
    ``marked`` (a text as Markdown, all of it as it was typed, or code between
    backticks), ``coded`` (the same in HTML), ``inlined`` (a PNG as base64) and
    ``digest`` (a script's, as a content security policy names it). ``page_script`` is
    the one script that pages have.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def page(self, template: str, **values: Any) -> str:
        """Fill a whole template.

        Raises
        ------
        ArtifactError
            If a picture cannot be read.
        """
        filled: str = self._environment().get_template(template).render(**values)
        return filled

    def sentences(self, template: str, topic: str, **values: Any) -> list[str]:
        """Fill one block of a text template; return its paragraphs, a line each."""
        filled = self._environment().get_template(template)
        text = "".join(filled.blocks[topic](filled.new_context(values)))
        parts = re.split(r"\n[ \n]*\n", text)
        return [
            " ".join(re.split(r"[ \n]+", part)).strip()
            for part in parts
            if part.strip()
        ]

    @functools.cache  # noqa: B019 - one per system, for the life of the process
    def _environment(self) -> Any:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        environment = Environment(
            loader=FileSystemLoader([self.folder, _SHARED]),
            autoescape=lambda name: name is not None and ".html" in name,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "count": count,
            "decimal": decimal,
            "plural": plural,
            "enumerated": enumerated,
            "form": format,
            "probability": probability,
            "rounded": rounded,
            "share": share,
            "spoken": spoken,
            "literal": literal,
            "marked": marked,
            "coded": _coded,
            "inlined": _inlined,
            "digest": _digest,
        }
        environment.globals["page_script"] = _SCRIPT.read_text(encoding="utf-8")
        return environment


def _coded(text: str) -> Any:
    """Escape a text, and set what stands between backticks as code."""
    from markupsafe import Markup, escape

    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup().join(  # every part is escaped
        Markup("<code>{}</code>").format(part) if place % 2 else part
        for place, part in enumerate(parts)
    )


def _inlined(path: Path) -> str:
    """Return a PNG file as base64 text."""
    try:
        return base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError as error:
        raise ArtifactError(
            f"the report's picture `{path}` cannot be read: {error.strerror}. "
            "Draw the pictures before the report is written."
        ) from None


def _digest(script: str) -> str:
    """Return what a content security policy lets a script pass by."""
    found = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(found).decode('ascii')}"


@dataclass(frozen=True)
class Picture:
    """A PNG file with its heading, a text for who cannot see it, and a caption."""

    title: str
    path: Path
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Rows as text, with a caption.

    Attributes
    ----------
    caption : str
    rows : sequence of mapping of column to str
    texts : frozenset of str
        Columns that are no numbers.
    bars : mapping of column to sequence of float
        A bar beside each number of a column, 0 to 1 of the widest.
    """

    caption: str
    rows: Sequence[Mapping[str, str]]
    texts: frozenset[str] = frozenset()
    bars: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class HeatMap:
    """How far groups lie from all others, feature by feature.

    Attributes
    ----------
    title, caption : str
    groups : sequence of str
        What the columns are called.
    rows : sequence of (str, sequence of float or None)
        A feature and its differences, a group each, in robust standard deviations;
        None where there is none.
    """

    title: str
    caption: str
    groups: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float | None]]]

    @property
    def cells(self) -> list[tuple[str, list[tuple[str, int]]]]:
        """The features in which any group differs, with text and level of each.

        The text is empty where a difference is below 0.5; levels are from -3 to 3.
        """
        found = [(name, [_heat(value) for value in own]) for name, own in self.rows]
        return [(name, own) for name, own in found if any(text for text, _ in own)]


_HOTTEST = 3
_WORTH_READING = 0.5


def _heat(value: float | None) -> tuple[str, int]:
    if value is None or abs(value) < _WORTH_READING:
        return "", 0
    text = f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")
    return text, round(max(-_HOTTEST, min(value, _HOTTEST)))


@dataclass(frozen=True)
class Part:
    """A heading, sentences, pictures, then tables."""

    title: str
    sentences: Sequence[str]
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = field(default=())


@dataclass(frozen=True)
class NextStep:
    """What a command would add to the report."""

    command: str
    adds: str
