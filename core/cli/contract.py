"""The verbs of the contract: what segments must keep, for CI and for refreshes."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from core.cli.app import app
from core.cli.options import ArtifactsFolder
from core.config import resolve_config
from core.errors import ConfigError, ContractError

contract = typer.Typer(
    name="contract",
    help="What segments must keep: draft it once, check it ever after.",
    no_args_is_help=True,
)
app.add_typer(contract)

_DAY = ["%Y-%m-%d"]


@contract.command("draft")
def draft(
    owner: Annotated[str, typer.Option("--owner", help="Who answers for it.")],
    expires: Annotated[
        datetime, typer.Option("--expires", formats=_DAY, help="Its last day.")
    ],
    artifacts: ArtifactsFolder = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="File to write, if there is none yet.",
            show_default="standard output",
        ),
    ] = None,
) -> None:
    """Write a contract with bands around the published segments, to be edited.

    Stability floors are drafted where `segments stability` has been run before.
    """
    from core.retailers.profile import draft_for

    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    text = draft_for(folder, owner, expires.date())
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        with output.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    except FileExistsError:
        raise ConfigError(
            f"`{output}` exists, and may hold terms that were agreed on. Delete it, or "
            "pass `--output` another name."
        ) from None
    typer.echo(f"Contract: {output}. Edit it, then set `refresh.contract` to it.")


@contract.command("check")
def check(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="The contract, a YAML file.",
            show_default="`refresh.contract` of the published model",
        ),
    ] = None,
    artifacts: ArtifactsFolder = None,
    today: Annotated[
        datetime | None,
        typer.Option(
            "--today",
            formats=_DAY,
            help="Day that `expires` is compared with.",
            show_default="this day",
        ),
    ] = None,
) -> None:
    """Hold a contract against the published segments; exit code 8 if it is broken."""
    from core.retailers.profile import breaches_of

    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    day = date.today() if today is None else today.date()
    breaches = breaches_of(folder, file, day)
    if breaches:
        n = len(breaches)
        raise ContractError(
            f"the segments in `{folder}` break their contract in {n} "
            f"{'place' if n == 1 else 'places'}:\n"
            + "\n".join(f"- {breach.message}" for breach in breaches)
        )
    typer.echo(f"The segments in {folder} keep their contract.")
