"""What a reader sees of pages and pictures."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path


def shown(page: str) -> str:
    """Return the text between the tags of a page, in one line."""
    body = re.sub(r"<script.*?</script>", "", page.partition("</style>")[2], flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def unscripted(page: str) -> str:
    """Return a page without its one script, once its policy lets nothing else run.

    What the script reads, which is no code, is left out, too.
    """
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1] == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    page = page.replace(f"<script>{scripts[0]}</script>", "")
    return re.sub(r'<script type="application/json" id="\w+">[^<]*</script>', "", page)


def is_clipped(picture: Path) -> bool:
    """Return whether anything touches the outermost pixels: clipped text would."""
    from matplotlib.image import imread

    pixels = imread(picture)[..., :3]
    edges = (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:])
    return any((edge < 0.99).any() for edge in edges)
