"""Versions logged to MLflow: figures and files beside those of a team's other models.

Optional: ``pip install stable-segments[mlflow]``. Nothing is read back; the artifacts
folder stays what serves.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import ConfigError, SegmentsError
from core.redaction import redacted

EXPERIMENT = "stable-segments"
# MLflow's own defaults try an address that does not answer for many minutes, and send
# usage figures to its makers.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
}
_LONGEST_VALUE = 500
"""Characters of a parameter; MLflow's older stores take no more."""
_NOT_IN_A_NAME = re.compile(r"[^\w.\- :/]")


def log_version(
    uri: str,
    facts: Mapping[str, Any],
    files: Sequence[Path],
) -> str:
    """Log one version as one MLflow run.

    A number becomes a metric, anything else a parameter; nested names are joined by
    points. What is None, or a number that is not finite, is left out. A version that
    was logged before (the same ``lineage``, ``version`` and ``model_id``) is not logged
    again.

    Parameters
    ----------
    uri : str
        MLflow tracking address, such as ``https://mlflow.example.com``, or a database
        for those who have all of MLflow installed. User and password are better given
        in MLflow's own environment variables.
    facts : mapping
        JSON-able, nested as you like; ``lineage``, ``version`` and ``model_id`` name
        the run.
    files : sequence of Path
        To be stored with it: the model card, pictures, ``segments.json``.

    Returns
    -------
    str
        The id of the MLflow run.

    Raises
    ------
    ConfigError
        If MLflow is not installed.
    SegmentsError
        If the address does not answer, or does not take the run.
    """
    metrics, parameters = _split(facts)
    names = {name: str(facts.get(name)) for name in ("lineage", "version", "model_id")}
    with _own_environment():
        mlflow = _mlflow()
        try:
            client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
            place = _experiment(client)
            known = client.search_runs([place], filter_string=_query(names))
            if known:
                return str(known[0].info.run_id)
            run = client.create_run(
                place,
                tags={f"segments.{name}": value for name, value in names.items()},
                run_name=f"version {names['version']}",
            )
            return _filled(client, str(run.info.run_id), metrics, parameters, files)
        except Exception as error:  # of MLflow, of requests, or of the database
            raise SegmentsError(
                f"MLflow at `{uri}` did not take version {names['version']} "
                f"({_finding(error)}). The version itself is "
                "whole; check `refresh.mlflow_uri`, or set it to null to log nothing."
            ) from None


def _filled(
    client: Any,
    run_id: str,
    metrics: Mapping[str, float],
    parameters: Mapping[str, str],
    files: Sequence[Path],
) -> str:
    """Log everything to a run and close it: as failed, if something goes wrong."""
    status = "FAILED"
    try:
        for name, value in parameters.items():
            client.log_param(run_id, name, value)
        for name, number in metrics.items():
            client.log_metric(run_id, name, number)
        for path in files:
            client.log_artifact(run_id, str(path))
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)
    return run_id


def _mlflow() -> Any:
    """Return the MLflow library.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        import mlflow
    except ImportError as error:
        raise ConfigError(
            f"`refresh.mlflow_uri` is set, but MLflow cannot be imported ({error}). "
            "Install it with `pip install stable-segments[mlflow]`, or set the option "
            "to null."
        ) from None
    return mlflow


def _experiment(client: Any) -> str:
    """Return the id of the MLflow experiment, made where it is not there."""
    known = client.get_experiment_by_name(EXPERIMENT)
    if known is None:
        return str(client.create_experiment(EXPERIMENT))
    return str(known.experiment_id)


def _query(names: Mapping[str, str]) -> str:
    """Return MLflow's search for a finished run of the same version."""
    parts = [f"tags.`segments.{name}` = '{value}'" for name, value in names.items()]
    return " and ".join([*parts, "attributes.status = 'FINISHED'"])


def _split(facts: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Return metrics and parameters by their joined names."""
    metrics: dict[str, float] = {}
    parameters: dict[str, str] = {}
    for name, value in _flat(facts):
        if isinstance(value, int | float) and not isinstance(value, bool):
            if math.isfinite(value):
                metrics[name] = float(value)
        elif value is not None:
            parameters[name] = str(value)[:_LONGEST_VALUE]
    return metrics, parameters


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield joined name and value of everything in a nested mapping."""
    for key, value in facts.items():
        name = prefix + _NOT_IN_A_NAME.sub("_", str(key))
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


@contextmanager
def _own_environment() -> Iterator[None]:
    """Set MLflow's options where the user has not, and take them back."""
    missing = [name for name in _ENVIRONMENT if name not in os.environ]
    os.environ.update({name: _ENVIRONMENT[name] for name in missing})
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def _finding(error: Exception) -> str:
    """Return what went wrong, without the trace that MLflow puts below it."""
    lines = redacted(str(error).strip()).splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__
