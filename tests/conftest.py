"""What every test file shares: a clean environment, the real data, strict skips."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from once import SMALL_RUN, Once

# Looked through for doctests they would be imported twice, under one name.
collect_ignore_glob = ["*conftest.py"]
REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

# Before anything is imported, and inherited by the processes that tests start: options
# of the developer's own shell must not decide a test, and no plot needs a display.
for _name in [name for name in os.environ if name.startswith("SEGMENTS_")]:
    del os.environ[_name]
os.environ["MPLBACKEND"] = "Agg"
# As in run.sh: or each worker and each process that a test starts compiles all modules.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Workers of the test run share the cores: threads of their own would only wait for one
# another (tests of what depends on their number start processes that have more). For
# small tables, UMAP takes longer to compile than to be interpreted.
_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
for _name in (*_THREADS, "OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

# A busy machine is no failure, and no run depends on luck: the examples are the same
# ones each time, so that few of them are enough.
# `--hypothesis-profile=explore`, or HYPOTHESIS_PROFILE=explore, looks further.
settings.register_profile("house", deadline=None, derandomize=True, max_examples=20)
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "house"))
# Some millions of objects of the libraries never become garbage; looking through them
# all the time is 5% of the run.
gc.set_threshold(10_000, 10, 100)


def pytest_xdist_auto_num_workers() -> int:
    """Let one process more than there are cores work, since many tests wait."""
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers that only this project's frame uses."""
    config.addinivalue_line(
        "markers", "wine: needs Debian's wine to run run.bat; skipped elsewhere"
    )
    config.addinivalue_line(
        "markers", "spark: needs PySpark and Java; skipped elsewhere"
    )
    config.addinivalue_line(
        "markers", "chromium: needs Chromium, Chrome or Edge; skipped elsewhere"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files, so that none of them is still running alone."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Fail what is skipped although ``FAIL_ON_SKIP`` names one of its markers.

    CI has the real data, wine, Chromium and Java, so it sets
    ``FAIL_ON_SKIP="chromium spark wine shared_data"``: a look-up that fails there must
    not pass as a skip.
    """
    report = yield
    strict = os.environ.get("FAIL_ON_SKIP", "").split()
    if report.skipped and any(item.get_closest_marker(name) for name in strict):
        report.outcome = "failed"
        report.longrepr = f"skipped, but FAIL_ON_SKIP={strict}: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data sets beside the repository, or skip."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real data sets are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Return what makes folders that all tests of this run share."""
    base = tmp_path_factory.getbasetemp()
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    return Once((base.parent if is_worker else base) / "once")


@pytest.fixture(autouse=True)
def _shared_folders_are_only_read(once: Once) -> Iterator[None]:
    yield
    once.check()


@pytest.fixture(autouse=True)
def _messages_can_be_read() -> None:
    """Undo what a command run by an earlier test did to the messages."""
    logger = logging.getLogger("stable_segments")
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


# --- one small model of retailers ---------------------------------------------------


@pytest.fixture(scope="session")
def _trained_run(once: Once) -> tuple[Path, list[Any]]:
    def make(folder: Path) -> list[Any]:
        from core.config import Config
        from core.retailers.pipelines import run_all

        return run_all(Config.model_validate({**SMALL_RUN, "artifacts": str(folder)}))

    return once.made("retailers", make)


@pytest.fixture(scope="session")
def trained(_trained_run: tuple[Path, list[Any]]) -> Path:
    """Return a complete run of 300 shops with eight natural segments, to be read."""
    return _trained_run[0]


@pytest.fixture(scope="session")
def trained_results(_trained_run: tuple[Path, list[Any]]) -> list[Any]:
    """Return what the four stages of `trained` said."""
    return _trained_run[1]


@pytest.fixture
def artifacts(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of `trained` that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "artifacts"))


@pytest.fixture(scope="session")
def _profiled_run(once: Once, trained: Path) -> tuple[Path, tuple[Any, Any]]:
    def make(folder: Path) -> tuple[Any, Any]:
        from core.retailers.judge import measure_stability
        from core.retailers.profile import profile_segments

        shutil.copytree(trained, folder)
        return profile_segments(folder), measure_stability(folder, n_refits=2)

    return once.made("profiled", make)


@pytest.fixture(scope="session")
def profiled(_profiled_run: tuple[Path, Any]) -> Path:
    """Return `trained` with profiles and the stability of its segments, to be read."""
    return _profiled_run[0]


@pytest.fixture(scope="session")
def profiled_result(_profiled_run: tuple[Path, tuple[Any, Any]]) -> Any:
    """Return what `profile` said of `profiled`."""
    return _profiled_run[1][0]


@pytest.fixture(scope="session")
def measured_stability(_profiled_run: tuple[Path, tuple[Any, Any]]) -> Any:
    """Return what `stability` said of `profiled`."""
    return _profiled_run[1][1]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Return the address of a server of moto's."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_client(
    s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Any]:
    """Return boto3's client of that server, which s3:// means while the test runs."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    client = boto3.client("s3")
    yield client
    client.close()
