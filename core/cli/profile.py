"""The verb that describes the segments of a standing model."""

from __future__ import annotations

import logging

from core.cli.app import app
from core.cli.closing import print_closing
from core.cli.options import ArtifactsFolder
from core.config import resolve_config
from core.logging import configure


@app.command("profile")
def profile(artifacts: ArtifactsFolder = None) -> None:
    """Say what sets the segments apart, test it on later months, and give rules."""
    from core.retailers.profile import profile_segments

    configure(logging.INFO)
    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    print_closing(profile_segments(folder))
