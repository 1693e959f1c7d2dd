"""The autoencoder as a scikit-learn estimator, fitted anew or from earlier weights.

Training is Keras's (`architectures`, `training`); everything after it is NumPy's
(`network`), right after `fit` as well as for a model loaded from disk. So TensorFlow is
imported by `fit` and by nothing else, and a row's latent vector has the same bits
alone, in a batch, in another order, and loaded from disk.

Two fits on one machine give the same bits whatever the order of the rows: rows are
sorted by their values first, the split into fitted and held-out rows is drawn from the
sorted ones, and training leaves nothing to chance or to global state (see `seeding`).
Another processor or another release of TensorFlow may train slightly other weights
(float32 sums are ordered by the machine); the weights once saved, everyone gets the
same answers from them.

A refit scales the features anew, so the same sales have other numbers. The weights that
training starts from are therefore expressed in the new units first (`in_new_units`):
the first layer takes in the old scaling of what it is given, the last one takes it out
again. Before its first step the new encoder then places a shop with given features
where the old one placed it (but for what the old bounds clipped), and what moves
afterwards is learnt from new data.

Measured on the built-in generator (2,000 shops, look-back of 24 months, refitted a
month later, three populations each), adjusted Rand index over all rows, the unassigned
as one more group, with the old model's labels / with the planted archetypes:

=================================  =============  =============
refit                              easy           medium
=================================  =============  =============
anew                               0.939 / 0.933  0.742 / 0.768
anew, near (`core.clustering`)     0.941 / 0.934  0.754 / 0.765
warm, full steps                   0.937 / 0.954  0.744 / 0.793
warm, 0.3 of the steps             0.949 / 0.946  0.781 / 0.777
warm, 0.3, near: what a refit does 0.956 / 0.939  0.815 / 0.775
warm, 0.1 of the steps             0.955 / 0.935  0.796 / 0.766
warm, 0.1, a third of the epochs   0.959 / 0.937  0.829 / 0.762
=================================  =============  =============

So a warm start costs nothing where shops are the same ones. What it costs shows with
shops of a kind that the old model has never seen (one archetype of eight left out of
the first training, eight cases): their own cluster reaches a mean Jaccard of 0.79
anew and at full steps, 0.72 at 0.3 and 0.67 at 0.1 of them. Hence 0.3. A term that
holds latent vectors to the old ones (weight 3, at 0.3 of the steps, near, medium) gave
0.831 / 0.761 at a third more time: agreement bought with quality, so there is none.
"""

from __future__ import annotations

import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from core.errors import ConfigError, ModelError
from core.models.autoencoder.architectures import Architecture, find_architecture
from core.models.autoencoder.network import (
    Codec,
    Dense,
    Layer,
    Network,
    fold,
    unfold,
)
from core.models.autoencoder.training import OnEpoch, TrainingSettings, train
from core.models.preprocessing import checked_matrix
from core.models.scaling import FeatureScaling, FloatArray, plain_matrix
from core.models.seeding import seeded

MIN_ROWS = 10
"""Fewest rows for a split into fitted and held-out ones to mean anything."""
WARM_PACE = 0.3
"""Step size of a training that goes on from an earlier one, over the usual one."""


class Autoencoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Compress scaled features into a latent space, learnt by restoring them.

    For whatever is None, the architecture's own value is used: the published one for
    'reference', and those of `core.models.autoencoder.architectures` for the others.

    Parameters
    ----------
    architecture : {'neighbours', 'denoising', 'reference'}
        Ours, which keeps neighbours together; a plain denoising autoencoder; or the
        published one for comparison. Their own values below come in this order.
    latent_size : int
        Dimensions of the latent space. From the number of features on, nothing is
        compressed: allowed, with a warning.
    hidden_size : int, optional
        Width of the hidden layers; 64, 64, or half the features.
    corruption : float, optional
        Standard deviation of the noise added to the inputs in training, in units of
        the scaled features; 0.4, 0.1, or 0.
    epochs : int, optional
        Upper bound of epochs; 30 (of 50 to 100 steps), 200 or 30.
    batch_size : int, optional
        Rows per gradient step: 1,024 pairs of rows, 32 to 256 rows by their number, or
        300.
    learning_rate : float, optional
        Step size of Adam; 0.005 (falling to 0), 0.001 or 0.001.
    validation_share : float, optional
        Share of the rows (one row = one shop) held out for early stopping; 0.1, 0.2 or
        0.35.
    patience : int, optional
        Epochs without a better validation loss before stopping; never, 10 or 5.
    seed : int
        Of everything random, 0 to 2**32 - 1.
    on_epoch : callable, optional
        ``on_epoch(epoch, epochs, loss, val_loss)`` after each epoch, for progress.

    Attributes
    ----------
    history_ : dict of str to list of float
        ``loss`` (with noise) and ``val_loss`` (without) after each epoch.
    best_epoch_ : int
        Epoch, counted from 1, whose weights were kept.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str
        Their names, if a frame was passed to `fit`.
    codec_ : core.models.autoencoder.network.Codec
        The trained weights, for NumPy: what is saved.
    keras_model_ : keras.Sequential
        The trained model.
    """

    codec_: Codec

    def __init__(
        self,
        architecture: str = "neighbours",
        latent_size: int = 5,
        hidden_size: int | None = None,
        corruption: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        validation_share: float | None = None,
        patience: int | None = None,
        seed: int = 42,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        self.architecture = architecture
        self.latent_size = latent_size
        self.hidden_size = hidden_size
        self.corruption = corruption
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_share = validation_share
        self.patience = patience
        self.seed = seed
        self.on_epoch = on_epoch

    def fit(self, X: Any, y: None = None, start: Codec | None = None) -> Self:
        """Train the network; imports TensorFlow.

        Parameters
        ----------
        X : array-like or frame of shape (n_shops, n_features)
            Scaled features, finite; their order does not matter.
        y : None
            Ignored.
        start : Codec, optional
            Of the same architecture and sizes: training goes on from its weights, with
            smaller steps, and so stays near to it. None: from random weights. Bring it
            into the units of `X` with
            `core.models.autoencoder.estimator.in_new_units` if they differ.

        Raises
        ------
        ConfigError
            For an option that is unknown or outside its range, or a `start` that does
            not fit (`start_fault`).
        ModelError
            For fewer than 10 rows, values that are not finite, rows that are all
            equal, a loss that diverges, or where TensorFlow cannot be imported.
        """
        architecture = find_architecture(self.architecture)
        _check_options(self)
        table = checked_matrix(self, X, is_fit=True, min_rows=MIN_ROWS)
        self._refuse_or_warn(table)
        rows = table[np.lexsort(table.T[::-1])].astype(np.float32)
        settings = self._settings(architecture, len(rows), is_warm=start is not None)
        hidden_size = self.hidden_size or architecture.hidden_size(rows.shape[1])
        if start is not None and (fault := self.start_fault(start, rows.shape[1])):
            raise ConfigError(f"training cannot start from an earlier model: {fault}.")
        with seeded(self.seed) as rng:
            model = architecture.build(
                rows.shape[1], self.latent_size, hidden_size, self.seed
            )
            if start is not None:
                unfold(model, start)
            objective, on_epoch = architecture.objective, self.on_epoch
            result = train(model, rows, settings, objective, self.seed, rng, on_epoch)
        self.keras_model_ = model
        self.codec_ = fold(model, self.architecture)
        self.history_, self.best_epoch_ = result.history, result.best_epoch
        return self

    def start_fault(self, start: Codec, n_features: int) -> str | None:
        """Return why training on `n_features` cannot go on from `start`, or None."""
        architecture = find_architecture(self.architecture)
        if not architecture.can_start_warm:
            return (
                f"the saved weights of `{self.architecture}` hold its normalisation "
                "folded in; train it again, or choose `neighbours` or `denoising`"
            )
        if start.architecture != self.architecture:
            return (
                f"it is a `{start.architecture}` network, expected a "
                f"`{self.architecture}` one"
            )
        hidden_size = self.hidden_size or architecture.hidden_size(n_features)
        expected = (n_features, hidden_size, self.latent_size)
        found = _widths(start.encoder)
        if found != expected:
            return (
                f"its features, hidden and latent sizes are {found}, expected "
                f"{expected}"
            )
        return None

    def transform(self, X: Any) -> FloatArray:
        """Return the latent vectors.

        Parameters
        ----------
        X : array-like or frame of shape (n_shops, n_features)
            Scaled features, finite.

        Returns
        -------
        ndarray of shape (n_shops, latent_size), float64
            A row's bits do not depend on the other rows.
        """
        check_is_fitted(self)
        return self.codec_.transform(checked_matrix(self, X, is_fit=False))

    def inverse_transform(self, X: Any) -> FloatArray:
        """Return the features that the decoder restores from latent vectors.

        Parameters
        ----------
        X : array-like of shape (n_shops, latent_size)
            Latent vectors.

        Returns
        -------
        ndarray of shape (n_shops, n_features), float64
            Scaled features.
        """
        check_is_fitted(self)
        decoder = self.codec_.decoder
        return decoder(plain_matrix(X, decoder.n_inputs, "latent vectors"))

    def get_feature_names_out(
        self, input_features: Any = None
    ) -> npt.NDArray[np.object_]:
        """Return ``latent_1`` to ``latent_{latent_size}``."""
        check_is_fitted(self)
        names = [f"latent_{i}" for i in range(1, self.codec_.encoder.n_outputs + 1)]
        return np.array(names, dtype=object)

    def save_keras(self, path: Path) -> None:
        """Write the whole autoencoder as a ``.keras`` file.

        ``keras.models.load_model(path)`` reads it in safe mode, without custom objects;
        its layer ``latent`` ends the encoder.
        """
        check_is_fitted(self)
        self.keras_model_.save(path)

    def _settings(
        self, architecture: Architecture, n_rows: int, *, is_warm: bool = False
    ) -> TrainingSettings:
        """Return the architecture's settings, with the user's where there are any."""
        own = architecture.settings(n_rows)
        if is_warm:
            own = replace(own, learning_rate=WARM_PACE * own.learning_rate)
        named = {f.name: getattr(self, f.name, None) for f in fields(own)}
        return replace(own, **{k: v for k, v in named.items() if v is not None})

    def _refuse_or_warn(self, table: FloatArray) -> None:
        """Refuse rows that are all equal; warn if nothing can be compressed."""
        if (table == table[0]).all():
            raise ModelError(
                f"`Autoencoder`: all {len(table):,} rows are equal; there is nothing "
                "to learn. Check that the features vary before they are scaled."
            )
        n_features = table.shape[1]
        if self.latent_size >= n_features:
            warnings.warn(
                f"`latent_size` is {self.latent_size} for {n_features} features: "
                "nothing is compressed. Choose fewer dimensions, or cluster the "
                "scaled features themselves.",
                stacklevel=3,
            )


def _widths(encoder: Network) -> tuple[int, int, int]:
    """Return an encoder's numbers of features, of hidden units and of outputs."""
    first = encoder.layers[0]
    assert isinstance(first, Dense)  # every network begins with one
    return encoder.n_inputs, len(first.bias), encoder.n_outputs


def _check_options(estimator: Autoencoder) -> None:
    """Raise for the first option outside its range."""
    whole = ("latent_size", "hidden_size", "epochs", "batch_size", "patience")
    rules: list[tuple[str, float, float, str]] = [
        (name, 1, np.inf, "a whole number from 1") for name in whole
    ]
    rules += [
        ("seed", 0, 2**32 - 1, "a whole number from 0 to 2**32 - 1"),
        ("corruption", 0.0, np.inf, "a standard deviation from 0"),
        ("learning_rate", 1e-12, np.inf, "a step size above 0"),
        ("validation_share", 1e-12, 1 - 1e-12, "a share between 0 and 1"),
    ]
    for name, low, high, expected in rules:
        value = getattr(estimator, name)
        if value is None and name not in ("latent_size", "seed"):
            continue
        is_whole = name in (*whole, "seed")
        kind = (int, np.integer) if is_whole else (int, float, np.number)
        is_sound = isinstance(value, kind) and not isinstance(value, bool)
        if not (is_sound and low <= value <= high and value != np.inf):
            raise ConfigError(f"`{name}` is {value!r}; expected {expected}.")


def in_new_units(trained: Codec, old: FeatureScaling, new: FeatureScaling) -> Codec:
    """Return the same autoencoder for features under another scaling.

    With ``z`` the features under the new scaling, those under the old one are
    ``z * ratio + shift``; a linear map, which the first and the last layer absorb. A
    column that was constant under either scaling has no old unit: its weights stay.

    Parameters
    ----------
    trained : Codec
        Of features under `old`.
    old, new : FeatureScaling
        Both with the columns of `trained`.

    Returns
    -------
    Codec
        `transform` of features scaled by `new` gives what `trained` gives of the same
        features scaled by `old`, to about 1e-6, as far as neither clips them.
    """
    ratio, shift = _map_between(old, new)
    return Codec(
        trained.architecture,
        _after(trained.encoder, ratio, shift),
        _before(trained.decoder, ratio, shift),
    )


def _map_between(
    old: FeatureScaling, new: FeatureScaling
) -> tuple[FloatArray, FloatArray]:
    """Return ratio and shift from the new to the old scaled values of each column."""
    had_unit = old.lower < old.upper
    has_both = had_unit & (new.lower < new.upper)
    ratio = np.where(has_both, new.scale / old.scale, 1.0)
    # Where the new centre lies, as the old scaler saw it: within its bounds.
    centre = np.clip(new.centre, old.lower, old.upper)
    return ratio, np.where(had_unit, (centre - old.centre) / old.scale, 0.0)


def _after(network: Network, ratio: FloatArray, shift: FloatArray) -> Network:
    """Return the network of ``x * ratio + shift``, as a network of ``x``."""
    first, *others = network.layers
    assert isinstance(first, Dense)  # every network begins with one
    bias = first.bias + (shift[:, None] * first.kernel).sum(axis=0)
    changed = replace(first, kernel=ratio[:, None] * first.kernel, bias=bias + 0.0)
    return Network((changed, *others))


def _before(network: Network, ratio: FloatArray, shift: FloatArray) -> Network:
    """Return the network whose output ``y`` becomes ``(y - shift) / ratio``."""
    *others, last = network.layers
    assert isinstance(last, Dense)  # every decoder ends with one
    changed: Layer = replace(
        last, kernel=last.kernel / ratio, bias=(last.bias - shift) / ratio + 0.0
    )
    return Network((*others, changed))
