"""Training of a Keras autoencoder: settings, epochs, validation.

Keras's `fit` spends most of its time around the steps for a network this small. Here an
epoch, all its gradient steps included, is one compiled TensorFlow function over tensors
in memory. What the loss is, the objective says (`reconstruction`, `neighbours`). What
is compiled is kept for the next fit of an equal network (`program`): refits share it.

Training runs on the CPU even where there is a GPU: steps of some hundred rows are too
short to gain from one, and the CPU's kernels for these operations are deterministic
(18 trainings of ``denoising`` and of ``reference`` on 20,000 rows gave the same bytes:
five processes, 1, 2 and 4 threads, a busy machine; ``neighbours`` did with 1 and 2).

Measured with ``denoising`` and 25 features, TensorFlow imported, in CPU time: 5,000
rows 2.6 s (98 epochs), 60,000 rows 10.5 s (181 epochs), some 0.8 ms a step;
``reference`` 0.9 and 2.8 s. Memory peaks at 0.81 GB, 0.70 of it TensorFlow's import.
Compiling takes 0.5 to 0.8 s and about 6 MB.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from core.errors import ModelError


def load_keras() -> tuple[Any, Any]:
    """Import TensorFlow and Keras quietly; return both modules.

    The first call takes about 5 s. Unless the user has set it, `TF_CPP_MIN_LOG_LEVEL`
    becomes 3 (only fatal messages of TensorFlow's C++ part; its Python errors are
    raised as ever), and a GPU that TensorFlow finds is not claimed whole.

    Raises
    ------
    ModelError
        If TensorFlow cannot be imported, or Keras runs on another backend.
    """
    # A process that this one starts inherits it, and is to be as quiet.
    is_quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3"
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        with _silenced_stderr(is_quiet):
            import keras
            import tensorflow as tf
    except ImportError as error:
        raise ModelError(
            f"the autoencoder needs TensorFlow, which cannot be imported: {error}. "
            "Install it with `pip install tensorflow`."
        ) from error
    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"Keras runs on the backend `{keras.backend.backend()}`; expected "
            "`tensorflow`. Unset the environment variable `KERAS_BACKEND`, or import "
            "this package before Keras."
        )
    return tf, keras


@contextmanager
def _silenced_stderr(is_quiet: bool) -> Iterator[None]:
    """Keep what C++ writes to the standard error off the terminal.

    TensorFlow 2.21 reports oneDNN and missing CUDA drivers during its import even at
    the highest log level, straight to file descriptor 2. An import that fails raises.
    """
    if not is_quiet:
        yield
        return
    try:
        kept = os.dup(2)
    except OSError:  # a process without standard error, such as a Windows service
        yield
        return
    try:
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


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
    model : keras.Model
        What is trained: a copy of the one handed in, of which it starts.
    run_epoch : callable
        From the epoch, counted from 1, to its loss; moves the weights of `model`.
    validate : callable
        Returns the loss of the held-out rows.
    """

    model: Any
    run_epoch: Callable[[int], float]
    validate: Callable[[], float]


# (model, rows, settings, seed, rng) -> Session, while it is used in `with`
Objective = Callable[
    [Any, Rows, TrainingSettings, int, np.random.Generator],
    AbstractContextManager[Session],
]


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
    # Not converted: a killed run would leave the sources that this makes among the
    # temporary files, and it takes most of the time of tracing.
    graph = tf.function(function, autograph=False)
    compiled: Callable[..., Any] = graph.get_concrete_function(*arguments)
    return compiled


class Program(NamedTuple):
    """A compiled training, for one fit after the other.

    Attributes
    ----------
    model : keras.Model
    optimizer : keras.Optimizer
    unused : list of ndarray
        The state of the optimizer before its first step.
    run_epoch, validate : callable
        Compiled over the variables of both.
    """

    model: Any
    optimizer: Any
    unused: list[npt.NDArray[Any]]
    run_epoch: Callable[..., Any]
    validate: Callable[..., Any]


Compile = Callable[
    [Any, Any, TrainingSettings], tuple[Callable[..., Any], Callable[..., Any]]
]

MOST_PROGRAMS = 4
_programs: dict[Hashable, Program] = {}


@contextmanager
def program(
    model: Any,
    learning_rate: Any,
    settings: TrainingSettings,
    compiling: Compile,
    *differing: Hashable,
) -> Iterator[Program]:
    """Lend a compiled training that starts from the weights of `model`.

    It is nobody else's meanwhile, and kept for the next network of the same kind: the
    `MOST_PROGRAMS` used last are.

    Parameters
    ----------
    model : keras.Model
        Its name and the shapes of its weights tell its kind; it is not changed.
    learning_rate : float or keras.optimizers.schedules.LearningRateSchedule
    settings : TrainingSettings
    compiling : callable
        ``(model, optimizer, settings) -> (run_epoch, validate)``.
    *differing : hashable
        What else is compiled in: the numbers that make `learning_rate`, and those of
        the settings that `compiling` uses.
    """
    tf, keras = load_keras()
    shapes = tuple(tuple(weight.shape) for weight in model.weights)
    is_eager = tf.config.functions_run_eagerly()
    key = (model.name, shapes, compiling, is_eager, *differing)
    lent = _programs.pop(key, None)
    if lent is None:
        copy = keras.models.clone_model(model)
        optimizer = keras.optimizers.Adam(learning_rate)
        optimizer.build(copy.trainable_variables)
        unused = [variable.numpy() for variable in optimizer.variables]
        lent = Program(copy, optimizer, unused, *compiling(copy, optimizer, settings))
    lent.model.set_weights(model.get_weights())
    for variable, value in zip(lent.optimizer.variables, lent.unused, strict=True):
        variable.assign(value)
    try:
        yield lent
    finally:
        _programs[key] = lent
        for oldest in list(_programs)[:-MOST_PROGRAMS]:
            _programs.pop(oldest, None)


def summed(n: Any, step: Callable[[Any], Any]) -> Any:
    """Return the sum of ``step(i)`` for i from 0 to n - 1, one after the other.

    Parameters
    ----------
    n : tf.Tensor
        int32.
    step : callable
        Gets int32, returns float32.
    """
    tf, _ = load_keras()
    _, total = tf.while_loop(
        lambda i, _: i < n,
        lambda i, total: (i + 1, total + step(i)),
        (tf.constant(0), tf.constant(0.0)),
    )
    return total


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
        What is learnt; see `core.models.autoencoder.training.Objective`.
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
    with (
        tf.device("/CPU:0"),
        objective(model, rows, settings, seed, rng) as session,
    ):
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
                best_epoch, best_weights = epoch, session.model.get_weights()
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
