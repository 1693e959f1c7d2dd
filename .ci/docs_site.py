"""Hooks of mkdocs: pages from outside `docs/`, and links between them."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "UPGRADING.md": "upgrading.md",
    "benchmarks/README.md": "benchmark-commands.md",
}
_REMOTE = "https://unpkg.com/iframe-worker/shim"
_LINK = re.compile(r"\[([^]\[]*)\]\(([^)#:\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere in the repository."""
    for source, name in PAGES.items():
        content = (REPOSITORY / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=content))
    for file in files:
        if file.src_uri.endswith(".ipynb"):
            notebook = json.loads(file.content_string)
            name = file.src_uri.replace(".ipynb", ".md")
            files.append(File.generated(config, name, content=page_of(notebook)))
            break
    return files


def page_of(notebook: dict[str, Any]) -> str:
    """Return a notebook as Markdown, with what its cells show."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text")})
            if "image/png" in data:
                png = data["image/png"]
                parts.append(f'<img alt="Picture" src="data:image/png;base64,{png}">')
            elif "text/html" in data:
                parts.append(data["text/html"])
            else:
                parts.append(f"```text\n{data['text/plain']}\n```")
    return "\n\n".join(parts)


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Point links at pages of the site; of other files, leave what they are called."""
    sources = {name: source for source, name in PAGES.items()}
    own = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def moved(link: re.Match[str]) -> str:
        text, path, anchor = link.groups(default="")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(own), path))
        if not (REPOSITORY / target).exists():
            return link[0]  # mkdocs says that it leads nowhere
        name = PAGES.get(target, target.removeprefix("docs/"))
        if target not in PAGES and not target.startswith("docs/"):
            return text if "`" in text else f"`{target}`"
        return f"[{text}]({name}{anchor})"

    return _LINK.sub(moved, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Take the script by which search works without a server from the site itself."""
    return output.replace(_REMOTE, "assets/iframe-worker.js")


def on_post_template(
    output_content: str, template_name: str, config: MkDocsConfig
) -> str:
    """Do so on the page that is shown for a page that is not there."""
    return output_content.replace(_REMOTE, "assets/iframe-worker.js")
