"""What an objective of training is made of: settings in, epochs and validation out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from core.representation.keras_backend import load_keras

Rows = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]

NOISE_SEED = 1000
"""Index of the noise among the derived seeds; those before it are the layers'."""


@dataclass(frozen=True)
class TrainingSettings:
    """How an architecture is trained.

    Parameters
    ----------
    epochs : int
        Upper bound of epochs.
    batch_size : int
        Rows (of ``neighbours``: pairs of rows) per gradient step.
    learning_rate : float
        Step size of Adam.
    validation_share : float
        Share of the rows held out for early stopping.
    patience : int or None
        Epochs without improvement before stopping; None: all epochs are run.
    corruption : float
        Standard deviation of the Gaussian noise added to the inputs, in units of the
        scaled features; 0 adds none.
    rows_per_epoch : int or None
        Rows drawn (anew each time, for ``neighbours`` once) and at most looked at for
        validation, so that the time does not grow with the rows; None: all.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    validation_share: float
    patience: int | None
    corruption: float
    rows_per_epoch: int | None


class Session(NamedTuple):
    """One training under way.

    Attributes
    ----------
    run_epoch : callable
        From the epoch, counted from 1, to its loss; moves the model's weights.
    validate : callable
        Returns the loss of the held-out rows.
    """

    run_epoch: Callable[[int], float]
    validate: Callable[[], float]


# (model, rows, settings, seed, rng) -> Session
Objective = Callable[[Any, Rows, TrainingSettings, int, np.random.Generator], Session]


def split_rows(
    n_rows: int, settings: TrainingSettings, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Return the rows to fit on and those held out, at least one of each.

    Of the held-out rows only `rows_per_epoch` are looked at, for time's sake.
    """
    n_held_out = round(settings.validation_share * n_rows)
    n_held_out = min(max(n_held_out, 1), n_rows - 1)
    order = rng.permutation(n_rows)
    return order[n_held_out:], order[:n_held_out][: settings.rows_per_epoch]


def traced(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """Return the compiled function, or itself where a user debugs eagerly.

    Traced at once, because TensorFlow warns of a function that is traced anew in each
    of several fits, which here is intended.
    """
    tf, _ = load_keras()
    if tf.config.functions_run_eagerly():
        return function
    compiled: Callable[..., Any] = tf.function(function).get_concrete_function(
        *arguments
    )
    return compiled
