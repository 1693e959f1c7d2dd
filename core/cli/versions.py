"""The verbs of published segments that every system of customers has.

Annotations are evaluated as they stand, since what they say differs by system.
"""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from core.cli import app
from core.config import Config
from core.resolve import resolve_config


def add_version_verbs(
    verbs: typer.Typer,
    system: str,
    axes_help: str,
    segmentation: Callable[[Config], Any],
) -> None:
    """Add ``rename`` and ``rollback`` to the verbs of a system.

    Parameters
    ----------
    verbs : Typer
    system : str
        Its section of the configuration.
    axes_help : str
        What its axes are.
    segmentation : callable
        Gives its part in `core.lifecycle` for a configuration.
    """
    default_store = getattr(Config(), system).store
    store_name = Annotated[str | None, app.option(app.WHOSE, default_store)]

    def of_store(store: str | None, database: str | None, artifacts: str | None) -> Any:
        flags = {
            "artifacts": artifacts,
            f"{system}.store": store,
            "store.url": database,
        }
        return segmentation(resolve_config(flags=flags))

    @verbs.command("rename")
    def rename(
        axis: Annotated[str, typer.Argument(help=axes_help)],
        segment: Annotated[
            int, typer.Argument(help="Id of a segment, see axis_sizes.csv.")
        ],
        name: Annotated[
            str, typer.Argument(help="Its name from now on, over refits too.")
        ],
        store: store_name = None,
        database: app.Database = None,
        no_store: app.NoStore = False,
        artifacts: app.ArtifactsFolder = None,
    ) -> None:
        """Give a segment a name that stays."""
        from core.lifecycle.versions import rename_segment

        chosen = of_store(store, database, artifacts)
        into_store = app.loader(no_store=no_store)
        app.report_and_exit(
            *rename_segment(chosen, axis, segment, name, into_store=into_store)
        )

    @verbs.command("rollback")
    def roll_back_version(
        to: Annotated[
            str | None,
            app.option(
                "A version by its name in the folder `versions`.", "the version before"
            ),
        ] = None,
        store: store_name = None,
        database: app.Database = None,
        no_store: app.NoStore = False,
        artifacts: app.ArtifactsFolder = None,
    ) -> None:
        """Go back to the version before, in the files and in the store."""
        from core.lifecycle.versions import roll_back

        chosen = of_store(store, database, artifacts)
        into_store = app.loader(no_store=no_store)
        app.report_and_exit(*roll_back(chosen, to, into_store=into_store))
