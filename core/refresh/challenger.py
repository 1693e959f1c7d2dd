"""A refit on the newest months, made aside: the challenger of the model that serves."""

from __future__ import annotations

from core.artifacts import Artifacts, ArtifactSet, StageWriter
from core.config import Config
from core.data.sources import Sales
from core.inference import Model
from core.pipelines.autoencoder import train_autoencoder
from core.pipelines.clustering import train_clustering
from core.pipelines.inference import run_inference
from core.pipelines.prepare import prepare_features
from core.refresh.scoring import ScoredMonth


def challenger_of(
    out: StageWriter,
    champion: Model,
    sales: Sales,
    config: Config,
    scored: ScoredMonth,
    retrain: str,
) -> ArtifactSet | None:
    """Return the challenger that an option of ``refresh.retrain`` asks for.

    None where only new segments were looked for, among the unassigned, and none found.
    """
    return train_challenger(out, champion, sales, config)


def train_challenger(
    out: StageWriter, champion: Model, sales: Sales, config: Config
) -> ArtifactSet:
    """Run the four pipelines on all sales up to a month, beside the serving model.

    Parameters
    ----------
    out : StageWriter
        Its `aside` takes the run.
    champion : Model
        The challenger keeps its segments' ids and names, and starts from its weights if
        ``refresh.is_warm``.
    sales : Sales
        From the archive.
    config : Config
        `core.refresh.scoring.monthly_config` of the month.

    Returns
    -------
    ArtifactSet
        A complete run, in a folder that lives as long as `out`.

    Raises
    ------
    SegmentsError
        If the pipelines cannot learn from these sales.
    """
    folder = out.aside / "challenger"
    aside = config.model_copy(update={"artifacts": str(folder)})
    prepare_features(aside, sales)
    train_autoencoder(aside, champion if config.refresh.is_warm else None)
    train_clustering(aside, champion)
    run_inference(aside)
    published = Artifacts(folder).published()
    assert published is not None  # all four stages have run
    return published
