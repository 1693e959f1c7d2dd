"""Run the cells of a notebook in order; with ``--write``, keep what they show in it.

    python .ci/notebook.py docs/quickstart.ipynb [--write]

A notebook of plain Python needs no more than this: no server, no kernel.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def run_cell(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a cell, and return its outputs: what it prints, then its last expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), names)
        value = None
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    outputs = []
    if text := printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    if value is not None:
        shown = {"output_type": "execute_result", "execution_count": None}
        outputs.append({**shown, "metadata": {}, "data": data_of(value)})
    return outputs


def data_of(value: Any) -> dict[str, str]:
    """Return how a notebook shows a value."""
    if hasattr(value, "savefig"):
        picture = io.BytesIO()
        value.savefig(picture, format="png", dpi=100, metadata={"Software": None})
        return {"image/png": base64.b64encode(picture.getvalue()).decode()}
    data = {"text/plain": repr(value)}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_()
    return data


def main(path: Path, *, is_kept: bool) -> None:
    """Run a notebook; an error ends it, after the cell."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            try:
                cell["outputs"] = run_cell(source, names)
            except Exception:
                print(f"{path}: this cell failed:\n{source}", file=sys.stderr)
                raise
    if is_kept:
        text = json.dumps(notebook, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), is_kept="--write" in sys.argv)
