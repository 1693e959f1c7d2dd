"""Stage 2: the scaler and the autoencoder."""

from __future__ import annotations

from core.arrays import save_arrays
from core.artifacts import Artifacts, StageWriter
from core.config import Config
from core.features.scaling import FeatureScaler
from core.inference import ENCODER_STATE, Model, join_states
from core.logging import get_logger, progress
from core.pipelines.common import (
    StageResult,
    stage_result,
    training_table,
    write_pickle,
)
from core.representation.autoencoder import Autoencoder
from core.representation.warm import in_new_units


def train_autoencoder(config: Config, start: Model | None = None) -> StageResult:
    """Stage 2: fit the scaler and the autoencoder.

    Writes ``autoencoder-model.keras``, ``feature-scaler.pkl`` (for notebooks),
    ``encoder-state.safetensors`` (what inference reads) and ``loss-plot.png``.

    Parameters
    ----------
    config : Config
    start : Model, optional
        Training goes on from the weights of its encoder, in the units of the new
        scaler, where it has the same features, architecture and sizes; else from
        random weights, and the facts say why. None: from random weights.
    """
    from core.reporting.plots import plot_loss

    with Artifacts(config.artifacts).stage("autoencoder", config) as out:
        _, X = training_table(out)
        scaler = FeatureScaler(**config.scaling.model_dump()).fit(X)
        scaled = scaler.transform(X)
        with progress("Training the autoencoder") as report:
            encoder = Autoencoder(
                **config.autoencoder.model_dump(), seed=config.seed, on_epoch=report
            )
            earlier = _started_from(start, encoder, scaler, out)
            encoder.fit(scaled, start=earlier)
        encoder.save_keras(out.path("autoencoder-model.keras"))
        write_pickle(scaler, out.path("feature-scaler.pkl"))
        states = join_states(scaler=scaler.get_state(), encoder=encoder.get_state())
        save_arrays(out.path(ENCODER_STATE), *states)
        history = encoder.history_
        plot_loss(history, encoder.best_epoch_, out.path("loss-plot.png"))
        out.facts |= {
            "is_warm": earlier is not None,
            "n_shops": len(X),
            "epochs": len(history["loss"]),
            "best_epoch": encoder.best_epoch_,
            "loss": history["loss"][encoder.best_epoch_ - 1],
            "validation_loss": history["val_loss"][encoder.best_epoch_ - 1],
        }
    facts = out.facts
    lines = [
        f"`{config.autoencoder.architecture}` autoencoder on {facts['n_shops']:,} "
        f"shops: best of {facts['epochs']} epochs is {facts['best_epoch']}, with a "
        f"validation loss of {facts['validation_loss']:.3f}."
    ]
    return stage_result("autoencoder", config, facts, lines)


def _started_from(
    start: Model | None, encoder: Autoencoder, scaler: FeatureScaler, out: StageWriter
) -> Autoencoder | None:
    """Return what training starts from; None, with the reason as a fact: anew."""
    if start is None:
        return None
    assert out.base is not None  # the training table was read from it
    features = out.base.manifest.facts("prepare")["features"]
    fault = encoder.start_fault(start.encoder, len(features))
    if start.features != features:
        fault = "it was trained on other features"
    if fault:
        out.facts["cold_reason"] = fault
        get_logger().warning("The autoencoder is trained anew: %s", fault)
        return None
    return in_new_units(start.encoder, start.scaler, scaler)
