"""Spark as it is away from this process: a cluster of two workers, and Connect.

    python tests/spark/cluster.py

starts a master, two workers and a Connect server from PySpark's own files, prepares
shops and segments customers through it, and holds features and profiles against those
of one machine. Six Java processes take a minute of two cores, so that it is a step of
CI and not of every test run.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from core.axes import AxesAssigner
from core.axes.sample import generate_shoppers
from core.config import Config, SampleConfig
from core.retailers.pipelines import prepare_features
from core.retailers.sample import generate_sales
from core.tables.orders import purchases_from_frames

HERE = "127.0.0.1"
PATIENCE_SECONDS = 120


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a process listens on a port."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((HERE, port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(f"nothing listens on port {port}:\n{log.read_text()[-3000:]}")


@contextmanager
def connect_server(folder: Path) -> Iterator[str]:
    """Start a master, two workers and a Connect server; yield its address."""
    import pyspark

    home = Path(pyspark.__file__).parent
    # One collector thread each: there are six processes on few cores.
    java = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
    env = os.environ | {
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": HERE,
        "SPARK_DAEMON_MEMORY": "512m",
        "SPARK_DAEMON_JAVA_OPTS": java,
        "PYSPARK_PYTHON": sys.executable,
    }
    # Executors get our package from the driver, and not from this checkout.
    env.pop("PYTHONPATH", None)
    port, connect = free_port(), free_port()
    master = f"spark://{HERE}:{port}"
    memory = {"spark.driver.memory": "512m", "spark.executor.memory": "512m"}
    conf = memory | {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.executor.extraJavaOptions": java,
        "spark.driver.extraJavaOptions": java,
        "spark.driver.host": HERE,
        "spark.connect.grpc.binding.address": HERE,
        "spark.connect.grpc.binding.port": str(connect),
    }
    deploy = [str(home / "bin" / "spark-class"), "org.apache.spark.deploy"]
    with ExitStack() as running:

        def start(name: str, *command: str) -> tuple[subprocess.Popen[bytes], Path]:
            log = folder / f"{name}.log"
            out = running.enter_context(log.open("wb"))
            process = subprocess.Popen(
                command, env=env, cwd=folder, stdout=out, stderr=subprocess.STDOUT
            )
            running.callback(process.wait)
            running.callback(process.terminate)
            return process, log

        spark_class, package = deploy
        options = ["--host", HERE, "--webui-port", "0"]
        run = [spark_class, f"{package}.master.Master", *options]
        wait_for(port, *start("master", *run, "--port", str(port)))
        run = [spark_class, f"{package}.worker.Worker", *options]
        for number in (1, 2):
            place = [
                "--cores",
                "1",
                "--memory",
                "512m",
                "-d",
                str(folder / f"w{number}"),
            ]
            start(f"worker{number}", *run, *place, master)
        settings = [
            f for key, value in conf.items() for f in ("--conf", f"{key}={value}")
        ]
        server = "org.apache.spark.sql.connect.service.SparkConnectServer"
        submit = str(home / "bin" / "spark-submit")
        run = [submit, "--master", master, *settings, "--class", server]
        wait_for(connect, *start("connect", *run, "spark-internal"))
        yield f"sc://{HERE}:{connect}"


def prepare_shops(address: str, folder: Path) -> None:
    """Compute features of shops through a server, and compare with one machine."""
    from pyspark.sql import SparkSession

    rows = generate_sales(SampleConfig(n_shops=80), 1).rows
    arrow = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    tables = []
    # Closed before its server is: at exit the client would call that for minutes.
    with SparkSession.builder.remote(address).getOrCreate() as spark:
        for name, frame in (("there", spark.createDataFrame(arrow)), ("here", rows)):
            prepare_features(Config(artifacts=str(folder / name)), frame)
            tables.append(pl.read_parquet(folder / name / "features.parquet"))
    assert_frame_equal(*tables)
    print(f"{tables[0].height} shops on two workers, through Connect: as one machine")


def segment_customers(address: str, folder: Path) -> None:
    """Segment customers by the command line, and compare with one machine."""
    made = generate_shoppers(100, 3)
    for name, rows in (("orders", made.orders), ("items", made.items)):
        rows.write_csv(folder / f"{name}.csv")
    command = [sys.executable, "-m", "core", "axes", "--engine", "spark", "--no-store"]
    for option in ("orders", "items"):
        command += [f"--{option}", str(folder / f"{option}.csv")]
    options = ["--artifacts", str(folder), "--set", f"spark.remote={address}"]
    subprocess.run([*command, *options], check=True)
    purchases = purchases_from_frames(
        made.orders, made.items, Config(), folder / "work"
    )
    assigner = AxesAssigner.load(folder / "axes")
    features = assigner.features(purchases)
    expected = {"features": features, "profiles": assigner.profiles(features)}
    for name, table in expected.items():
        found = pl.read_parquet(folder / "spark" / f"axes_{name}" / "*.parquet")
        assert_frame_equal(found.sort("customer_id"), table)
    workers = {path.parts[-3] for path in folder.glob("w?/app-*/*")}
    assert workers == {"w1", "w2"}, workers
    print(f"{table.height} customers on two workers, through Connect: as one machine")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name, connect_server(Path(name)) as address:
        prepare_shops(address, Path(name))
        segment_customers(address, Path(name))
