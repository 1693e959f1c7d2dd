"""What a reader sees of pages and pictures."""

from __future__ import annotations

import re
from pathlib import Path


def shown(page: str) -> str:
    """Return the text between the tags of a page, in one line."""
    body = page.partition("</style>")[2]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def is_clipped(picture: Path) -> bool:
    """Return whether anything touches the outermost pixels: clipped text would."""
    from matplotlib.image import imread

    pixels = imread(picture)[..., :3]
    edges = (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:])
    return any((edge < 0.99).any() for edge in edges)
