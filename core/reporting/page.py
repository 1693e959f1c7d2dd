"""Pages of HTML: parts, tables, pictures, and the templates that show them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import ArtifactError
from core.reporting.text import count, decimal, percent

_TEMPLATES = Path(__file__).parent / "templates"


def rendered(template: str, **values: Any) -> str:
    """Fill a template.

    Parameters
    ----------
    template : str
        File name in ``core/reporting/templates``. In those of HTML (``.html`` in the
        name) whatever is filled in is escaped; in others it stands as it is.
    **values
        What the template asks for. It also has the filters ``count``, ``percent`` and
        ``decimal`` of `core.reporting.text`, ``coded`` (text between backticks
        becomes code) and ``inlined`` (a PNG file as base64).

    Raises
    ------
    ArtifactError
        If a picture cannot be read.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "percent": percent,
        "decimal": decimal,
        "coded": _coded,
        "inlined": _inlined,
    }
    return environment.get_template(template).render(**values)


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


@dataclass(frozen=True)
class Picture:
    """A PNG file with its heading, a text for who cannot see it, and a caption."""

    title: str
    path: Path
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Rows as text, with a caption; the columns of `texts` are no numbers."""

    caption: str
    rows: Sequence[Mapping[str, str]]
    texts: frozenset[str] = frozenset()


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
