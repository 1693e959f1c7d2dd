"""Tables of a run written to other places, and models fetched from there."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from core.channels import files
from core.config import ChannelsConfig, Config
from core.errors import ConfigError, did_you_mean, listed, preceded_by
from core.lifecycle.rule_runs import LEFT_OUT
from core.scratch import temporary_folder
from core.tables.files import fetch, is_remote
from core.tables.remote import store_file

ID = "customer_id"


def check_outputs(options: ChannelsConfig) -> None:
    """Refuse a table that a run does not make, before it runs.

    Raises
    ------
    ConfigError
        With the nearest name.
    """
    known = _files(options)
    unknown = [name for name in options.outputs if name not in known]
    if unknown:
        raise ConfigError(
            f"`channels.outputs` names {listed(unknown)}, which this run does not "
            f"make.{did_you_mean(unknown[0], known)} It makes {listed([*known], 20)}."
        )


def store_outputs(options: ChannelsConfig, folder: Path) -> list[str]:
    """Write published tables to where ``channels.outputs`` says, and tell of it.

    Parameters
    ----------
    options : ChannelsConfig
    folder : path
        Of the published set.

    Raises
    ------
    SourceError
        If one cannot be written.
    """
    published = f"The segments are published in `{folder}`."
    with temporary_folder() as work, preceded_by([published]):
        for name, address in options.outputs.items():
            file = _files(options)[name]
            table = pl.scan_parquet(folder / file, glob=False)
            if file == files.CUSTOMERS:
                # Elsewhere all customers that features were computed of.
                others = pl.scan_parquet(folder / LEFT_OUT, glob=False)
                others = others.drop("reason")
                is_known = pl.any_horizontal(pl.exclude(ID).is_not_null())
                table = pl.concat([table, others.filter(is_known)])
            copy = work / f"{name}.parquet"
            renamed = table.rename({ID: options.id_column})
            renamed.sink_parquet(copy, compression="zstd")
            store_file(copy, address)
    return [f"{name}: {address}" for name, address in options.outputs.items()]


def _files(options: ChannelsConfig) -> dict[str, str]:
    """Return the file of every table that can be written elsewhere, by its name."""
    names = [files.SEGMENTS, files.MICRO_SEGMENTS, files.CUSTOMERS]
    names += [files.order_features_file(channel) for channel in options.sources]
    return {Path(name).stem: name for name in names}


def with_models_at_hand(config: Config, work: Path) -> Config:
    """Return a configuration whose converted models are local files.

    Parameters
    ----------
    config : Config
    work : Path
        Existing folder; models at addresses are fetched into it.

    Raises
    ------
    SourceError
        If one cannot be fetched.
    """
    plan = [
        item.model_copy(update={"model": str(fetch(item.model, work)[0].path)})
        if item.enabled and item.model is not None and is_remote(item.model)
        else item
        for item in config.channels.micro
    ]
    channels = config.channels.model_copy(update={"micro": plan})
    return config.model_copy(update={"channels": channels})
