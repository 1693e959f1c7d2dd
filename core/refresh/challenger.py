"""A refit on the newest months, made aside: the challenger of the model that serves."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from core.artifacts import Artifacts, ArtifactSet
from core.config import Config
from core.data.sources import Sales
from core.inference import Model
from core.pipelines.autoencoder import train_autoencoder
from core.pipelines.clustering import train_clustering
from core.pipelines.extension import extend_model
from core.pipelines.inference import run_inference
from core.pipelines.judging import GateResult
from core.pipelines.prepare import prepare_features
from core.pipelines.publishing import refresh_report


class Search(NamedTuple):
    """What a challenger is looked for in.

    Attributes
    ----------
    base : ArtifactSet
        The set that serves.
    champion : Model
        Its model. The challenger keeps ids and names, and starts from its weights if
        ``refresh.is_warm``.
    sales : Sales
        From the archive.
    config : Config
        `core.refresh.scoring.monthly_config` of the month.
    folder : Path
        Takes the challenger's run.
    """

    base: ArtifactSet
    champion: Model
    sales: Sales
    config: Config
    folder: Path


def train_challenger(search: Search, *, only_new: bool) -> ArtifactSet | None:
    """Run the four pipelines on all sales up to a month, beside the serving model.

    Parameters
    ----------
    search : Search
    only_new : bool
        Keep the model as it is, and look for new segments among the unassigned.

    Returns
    -------
    ArtifactSet or None
        A complete run; None where only new segments were wanted and none stands out.

    Raises
    ------
    SegmentsError
        If the pipelines cannot learn from these sales.
    """
    champion = search.champion
    config = search.config.model_copy(update={"artifacts": str(search.folder)})
    prepare_features(config, search.sales)
    if only_new:
        if not extend_model(config, search.base, champion):
            return None
    else:
        train_autoencoder(config, champion if config.refresh.is_warm else None)
        train_clustering(config, champion)
    run_inference(config)
    return _published(search.folder)


def note_gate(
    challenger: ArtifactSet, gate: GateResult, champion: Model
) -> ArtifactSet:
    """Write what the gate has found into a challenger's own run.

    Its stability, which the report and `segments contract check` read; the decision
    itself and the champion's names, of which the model card tells.
    """
    before = {str(i): name for i, name in champion.segments.published.names.items()}
    config = challenger.manifest.config
    with Artifacts(challenger.folder).stage("inference", config, True) as out:
        assert out.base is not None  # the challenger is complete
        gate.challenger.stability.write_csv(out.path("stability.csv"))
        out.facts |= out.base.manifest.facts("inference") | {
            "stability": gate.challenger.stability_facts,
            "gate": gate.decision.model_dump(mode="json"),
            "names_before": before,
        }
        refresh_report(out)
    return _published(challenger.folder)


def _published(folder: Path) -> ArtifactSet:
    published = Artifacts(folder).published()
    assert published is not None  # all four stages have run
    return published
