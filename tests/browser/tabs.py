"""A tab of the browser, and what a page does in it that it should not."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

WIDE, PHONE, PAPER = (1300, 900), (390, 844), (680, 1000)
"""Windows in pixels; `PAPER` is A4 within its margins."""
_OF_THIS_MACHINE = frozenset({"127.0.0.1", "localhost", ""})
# Of many rows, items and cards that are alike, the first ones: half of the time. And
# without the stylesheets, which axe would ask for anew, and the elements themselves.
_AXE = """options => axe.run(
    { include: document, exclude: [
        ["tbody tr:nth-child(n+7)"], ["li:nth-child(n+8)"], ["article:nth-of-type(n+4)"]
    ] },
    { ...options, resultTypes: ["violations"], preload: false, elementRef: false }
)"""
_FIRST_CONTENT = """() => new Promise(resolve => new PerformanceObserver(list => {
    const [entry] = list.getEntriesByName("first-contentful-paint");
    if (entry) resolve(entry.startTime);
}).observe({ type: "paint", buffered: true }))"""


class Tab:
    """A page in the browser, as its reader sees it.

    Attributes
    ----------
    page : playwright.sync_api.Page
    requests : list of str
        Addresses asked for since `visit`.
    faults : list of str
        What the console and the page's own script complained of since `visit`.
    """

    def __init__(self, browser: Any, *, has_scripts: bool = True) -> None:
        self._context = browser.new_context(java_script_enabled=has_scripts)
        self.page = self._context.new_page()
        self.page.set_default_timeout(30_000)
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(message.text)

    def visit(self, address: Path | str, size=WIDE, scheme: str = "light") -> Any:
        """Open a file or an address anew; return the page."""
        self.requests.clear()
        self.faults.clear()
        self.page.emulate_media(color_scheme=scheme, media="screen")
        self.look(size)
        self.page.goto(address.as_uri() if isinstance(address, Path) else address)
        return self.page

    def look(self, size=WIDE) -> None:
        """Give the window another size, width and height in pixels."""
        self.page.set_viewport_size({"width": size[0], "height": size[1]})

    @property
    def strangers(self) -> list[str]:
        """Return requests to another machine."""
        return [
            address
            for address in self.requests
            if (urlsplit(address).hostname or "") not in _OF_THIS_MACHINE
        ]

    def is_quick(self, address: Path | str) -> bool:
        """Return whether something was painted within a second.

        A busy machine gets three tries: a page that is too heavy fails them all.
        """
        return any(
            self.visit(address).evaluate(_FIRST_CONTENT) < 1000 for _ in range(3)
        )

    @property
    def n_bytes(self) -> int:
        """Return how many bytes the page and all it asked for have, unpacked."""
        return self.page.evaluate(
            "performance.getEntries().reduce((n, e) => n + (e.decodedBodySize ?? 0), 0)"
        )

    @property
    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth - window.innerWidth"
        )

    def violations(self, *rules: str) -> list[str]:
        """Return what axe-core finds, by all of its rules or by some."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(self._axe)
        options = {"runOnly": list(rules)} if rules else {}
        found = self.page.evaluate(_AXE, options)["violations"]
        return [
            f"{rule['id']}: {node['html'][:200]}: {node['failureSummary']}"
            for rule in found
            for node in rule["nodes"]
        ]

    @cached_property
    def _axe(self) -> str:
        import axe_playwright_python

        folder = Path(axe_playwright_python.__file__).parent
        return (folder / "axe.min.js").read_text("utf-8")
