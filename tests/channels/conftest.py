"""The built-in sample of channels, small, as its readers leave it."""

from __future__ import annotations

import pytest

from core.channels.intake import read_channels
from core.channels.sample import with_sample
from core.channels.schema import ChannelData
from core.resolve import build_config


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> ChannelData:
    """Return orders and items of 80 customers, to be read."""
    work = tmp_path_factory.mktemp("sample")
    config = build_config({"channels": {"sample_customers": 80}})
    return read_channels(with_sample(config, work), work)
