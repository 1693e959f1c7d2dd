"""What every test file shares: a clean environment, the real data, strict skips."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

# Before anything is imported, and inherited by the processes that tests start: options
# of the developer's own shell must not decide a test, and no plot needs a display.
for _name in [name for name in os.environ if name.startswith("SEGMENTS_")]:
    del os.environ[_name]
os.environ["MPLBACKEND"] = "Agg"

# A busy machine is no failure, and no run depends on luck.
# `--hypothesis-profile=explore`, or HYPOTHESIS_PROFILE=explore, looks further.
settings.register_profile("house", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "house"))


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that only this project's frame uses."""
    config.addinivalue_line(
        "markers", "wine: needs Debian's wine to run run.bat; skipped elsewhere"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Fail what is skipped although ``FAIL_ON_SKIP`` names one of its markers.

    CI has the real data and wine, so it sets ``FAIL_ON_SKIP="shared_data wine"``: a
    lookup that goes wrong there must not pass as a skip.
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
