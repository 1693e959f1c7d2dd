"""Train a Keras autoencoder on rows in memory, one graph call per epoch.

Keras's `fit` spends most of its time around the steps for a network this small. Here an
epoch, all its gradient steps included, is one compiled TensorFlow function over tensors
in memory. What the loss is, the objective says (`reconstruction`, `neighbours`).

Training runs on the CPU even where there is a GPU: steps of some hundred rows are too
short to gain from one, and the CPU's kernels for these operations are deterministic
(18 trainings of ``denoising`` and of ``reference`` on 20,000 rows gave the same bytes:
five processes, 1, 2 and 4 threads, a busy machine; ``neighbours`` did with 1 and 2).

Measured with ``denoising`` and 25 features, TensorFlow imported, in CPU time: 5,000
rows 2.6 s (98 epochs), 60,000 rows 10.5 s (181 epochs), some 0.8 ms a step;
``reference`` 0.9 and 2.8 s. Memory peaks at 0.81 GB, 0.70 of it TensorFlow's import;
each further fit in one process keeps about 6 MB of compiled graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import ModelError
from core.representation.keras_backend import load_keras
from core.representation.session import Objective, Rows, TrainingSettings

OnEpoch = Callable[[int, int, float, float], None]


@dataclass(frozen=True)
class TrainingResult:
    """What a training leaves beside the model's weights.

    Parameters
    ----------
    history : dict of str to list of float
        ``loss`` and ``val_loss`` after each epoch.
    best_epoch : int
        Epoch, counted from 1, whose weights were kept: the best, or the last without
        `patience`.
    """

    history: dict[str, list[float]]
    best_epoch: int


def train(
    model: Any,
    rows: Rows,
    settings: TrainingSettings,
    objective: Objective,
    seed: int,
    rng: np.random.Generator,
    on_epoch: OnEpoch | None,
) -> TrainingResult:
    """Fit the model in place; end with the weights of the best validation loss.

    Without `patience`, all epochs are run and the last weights are kept.

    Parameters
    ----------
    model : keras.Model
        Freshly built; maps rows to their reconstruction.
    rows : ndarray of shape (n_rows, n_features), float32
        In canonical order.
    settings : TrainingSettings
    objective : callable
        What is learnt; see `core.representation.session.Objective`.
    seed : int
        Of the noise.
    rng : numpy.random.Generator
        Draws the split and the order of the rows.
    on_epoch : callable or None
        Called as ``on_epoch(epoch, epochs, loss, val_loss)`` after each epoch.

    Raises
    ------
    ModelError
        If the loss stops being finite.
    """
    tf, _ = load_keras()
    history: dict[str, list[float]] = {"loss": [], "val_loss": []}
    best_epoch, best_weights = 0, model.get_weights()
    with tf.device("/CPU:0"):
        session = objective(model, rows, settings, seed, rng)
        for epoch in range(1, settings.epochs + 1):
            loss = session.run_epoch(epoch)
            val_loss = session.validate()
            _refuse_divergence(epoch, loss, val_loss, rows, settings)
            history["loss"].append(loss)
            history["val_loss"].append(val_loss)
            if on_epoch is not None:
                on_epoch(epoch, settings.epochs, loss, val_loss)
            is_best = val_loss < min(history["val_loss"][:-1], default=np.inf)
            if is_best or settings.patience is None:
                best_epoch, best_weights = epoch, model.get_weights()
            elif epoch - best_epoch >= settings.patience:
                break
    model.set_weights(best_weights)
    return TrainingResult(history, best_epoch)


def _refuse_divergence(
    epoch: int, loss: float, val_loss: float, rows: Rows, settings: TrainingSettings
) -> None:
    """Raise if a loss is not finite, with what usually causes it."""
    if np.isfinite([loss, val_loss]).all():
        return
    raise ModelError(
        f"the autoencoder's loss stopped being finite in epoch {epoch} (loss {loss}, "
        f"validation {val_loss}; largest input {np.abs(rows).max():.3g}, "
        f"`learning_rate` {settings.learning_rate:g}). Scale the features with "
        "`FeatureScaler` first, or lower `learning_rate`."
    )
