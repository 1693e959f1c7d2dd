"""What a verb prints when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from core.retailers.training import StageResult


def print_closing(result: StageResult) -> None:
    """Print the closing table, and where everything is, on standard output."""
    console = Console()
    if result.table:
        table = Table(title="What was found", title_justify="left")
        for name in result.table[0]:
            is_text = name in {"labels", "outcome", "recipe", "space", "verdict"}
            table.add_column(name, justify="left" if is_text else "right")
        for row in result.table:
            table.add_row(*row.values())
        console.print(table)
    for line in result.lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
