"""The options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file with any of the options."),
]
ArtifactsFolder = Annotated[
    str | None,
    typer.Option(
        "--artifacts", help="Folder of the artifacts.", show_default="artifacts"
    ),
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        help="Your rows: CSV (.gz), Parquet or Excel; a file, folder, glob or s3:// "
        "address. The inference script scores them if they are not the training data.",
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--source",
        help="`sample` (built in, offline) or `kaggle`; `--input` goes before.",
        show_default="sample",
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        "--features",
        help="`behaviour` (how a shop sells) or `baseline` (the reference's 29).",
        show_default="behaviour",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help="Seed of everything random.", show_default="42"),
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        help="Last month looked at, YYYY-MM.",
        show_default="the newest complete month",
    ),
]
Column = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="Map a column, such as `shop_id=CustomerID`; repeat for more. Ours are "
        "shop_id, product_id, year, month (or date), sales_qty, sales_value.",
    ),
]
Assignment = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Any option as `key=value`, such as `clustering.min_cluster_size=30`; "
        "repeat for more. `segments config` lists them all.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
