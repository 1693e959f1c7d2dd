"""The Spark session of a run, classic or Connect, and what its executors need of us."""

from __future__ import annotations

import atexit
import os
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.config import SparkConfig
from core.errors import SourceError
from core.scratch import temporary_folder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PACKAGE = Path(__file__).resolve().parents[1]
# How values of files are told: as on one machine, whatever the cluster's defaults are.
READING = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.caseSensitive": "true",
}


def is_spark(frame: Any) -> bool:
    """Return whether a frame is a DataFrame of Spark, classic or Connect.

    Nothing is imported: who has such a frame has imported PySpark.
    """
    return any(
        base.__module__.startswith("pyspark.sql.") and base.__name__ == "DataFrame"
        for base in type(frame).__mro__
    )


def session(config: SparkConfig) -> SparkSession:
    """Return the active session, or a new one.

    Parameters
    ----------
    config : SparkConfig
        Its `remote` is the address of a Connect server; None: the session that is
        active, or else one as Spark's own configuration says (`spark-submit`,
        `spark-defaults.conf`, `SPARK_REMOTE`).

    Raises
    ------
    SourceError
        If PySpark or Java is missing, or the server cannot be reached.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise SourceError(
            "`features.engine` is `spark`, but PySpark is not installed. Install it: "
            '`pip install "stable-segments[spark]"`.'
        ) from None
    # Of its bridge to pandas, which nothing here uses.
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # Nothing of ours uses it with pandas.
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")
    builder = SparkSession.builder.appName("stable-segments")
    if config.remote is not None:
        builder = builder.remote(config.remote)
    try:
        found = builder.getOrCreate()
        ship(found)
    except Exception as error:
        # Py4J, gRPC and the operating system each have errors of their own.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise SourceError(
            f"no Spark session ({reason[:300]}). Without `spark.remote`, Spark needs "
            "Java 17 or newer on this machine; with it, a Spark Connect server at "
            "that address."
        ) from None
    return found


_shipped: list[Any] = []


def ship(spark: SparkSession) -> None:
    """Hand executors this version of the package, once per session.

    They need its libraries beside (`pip install stable-segments` on the cluster), but
    can never run another version of our own code than the driver does.
    """
    if any(known is spark for known in _shipped):
        return
    # Executors fetch it when they begin, which may be late.
    until_the_end = ExitStack()
    atexit.register(until_the_end.close)
    folder = until_the_end.enter_context(temporary_folder())
    # A name of its own: a server that has seen an earlier version keeps it.
    path = folder / f"{folder.name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(PACKAGE.rglob("*")):
            if file.suffix in {".py", ".yaml"}:
                archive.write(file, file.relative_to(PACKAGE.parent))
    spark.addArtifacts(str(path), pyfile=True)
    _shipped.append(spark)


@contextmanager
def read_as_here(spark: SparkSession) -> Iterator[None]:
    """Let Spark read values as one machine does, for as long as its jobs run.

    A moment of a file is shown in UTC, and folders such as ``shop=001`` keep their
    zeros. The session has its own settings again afterwards.
    """
    before = {name: spark.conf.get(name, None) for name in READING}
    for name, value in READING.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, value)
