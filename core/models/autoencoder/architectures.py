"""Named autoencoders: how the layers are stacked, and how they are trained.

To add one, write a builder and enter it in `ARCHITECTURES`. A builder returns a
`keras.Sequential` whose layer ``latent`` ends the encoder, made of `Dense` (linear or
ReLU), `BatchNormalization` in front of a `Dense`, and `LayerNormalization`: what
`core.models.autoencoder.network` can turn into NumPy.

``reference``
    The published model and its training, for comparison. Its LayerNorm leaves the
    latent vector `latent_size` - 2 free dimensions (mean and variance are fixed) and
    its L2 penalty is on the encoder only.
``denoising``
    Two ReLU layers on each side of a linear latent layer, trained to restore the clean
    features from noisy ones. ReLU and not GELU because its NumPy result is exact on
    every machine. No normalisation layers: the scaled features already have mean 0 and
    spread 1, and with batch statistics a row's gradient would depend on its neighbours.
    The latent space is left as it is trained, not whitened: whitening stretches
    directions of little variance until they count as much as those that separate shops.
``neighbours``
    Ours, and the default: the same layers, trained to keep each shop's nearest
    neighbours near and all others apart, besides restoring the features; see
    `core.models.autoencoder.objectives`.

Measured on 8 synthetic tables (4,000 shops x 25 features, 6 planted groups on a curved
surface, 15% in between, 4 columns of noise and a heavy tail), as the mean adjusted Rand
index of HDBSCAN's clusters in the space: scaled features 0.28, 5 principal components
0.68, ``reference`` 0.67, ``denoising`` 0.67 (corruption 0: 0.70, 0.3: 0.64), whitened
0.48. So a representation pays, whitening costs, and between the architectures, the
amounts of noise and plain principal components these tables do not decide: the ARI
varies by more than that from one table to the next. ``neighbours`` is another matter:
``python benchmarks/quality.py`` compares it on the built-in generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.errors import ConfigError, did_you_mean, listed
from core.models.autoencoder.objectives import keep_neighbours, restore_features
from core.models.autoencoder.training import Objective, TrainingSettings, load_keras
from core.models.seeding import derived_seed

Builder = Callable[[int, int, int, int], Any]

LATENT = "latent"
"""Name of the layer whose output is the latent vector."""


@dataclass(frozen=True)
class Architecture:
    """A named autoencoder.

    Parameters
    ----------
    name : str
    build : callable
        ``(n_features, latent_size, hidden_size, seed) -> keras.Sequential``.
    hidden_size : callable
        ``(n_features) -> int``, the width used if the user names none.
    settings : callable
        ``(n_rows) -> TrainingSettings``, for what the user leaves open.
    objective : callable
        What the training is for; see `core.models.autoencoder.training.Objective`.
    can_start_warm : bool
        Whether training can go on from the saved weights: not where a normalisation
        was folded into them.
    """

    name: str
    build: Builder
    hidden_size: Callable[[int], int]
    settings: Callable[[int], TrainingSettings]
    objective: Objective
    can_start_warm: bool = True


def find_architecture(name: str) -> Architecture:
    """Return the architecture of that name.

    Raises
    ------
    ConfigError
        If there is none, with the names that there are.
    """
    if name not in ARCHITECTURES:
        raise ConfigError(
            f"unknown `architecture` {name!r}; expected {listed(list(ARCHITECTURES))}."
            f"{did_you_mean(str(name), ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]


def _build_symmetric(
    n_features: int, latent_size: int, hidden_size: int, seed: int
) -> Any:
    """Return features -> h -> h -> latent -> h -> h -> features."""
    _, keras = load_keras()
    widths = [
        ("encoder_1", hidden_size, "relu"),
        ("encoder_2", hidden_size, "relu"),
        (LATENT, latent_size, "linear"),
        ("decoder_1", hidden_size, "relu"),
        ("decoder_2", hidden_size, "relu"),
        ("reconstruction", n_features, "linear"),
    ]
    return _sequential(
        n_features,
        "autoencoder",
        [
            keras.layers.Dense(
                width,
                activation=activation,
                name=name,
                kernel_initializer=_initializer(seed, i),
                dtype="float32",
            )
            for i, (name, width, activation) in enumerate(widths)
        ],
    )


def _build_reference(
    n_features: int, latent_size: int, hidden_size: int, seed: int
) -> Any:
    """Return the published stack; see the module."""
    _, keras = load_keras()
    layers = keras.layers

    def encoder(name: str, width: int, activation: str, index: int) -> Any:
        return layers.Dense(
            width,
            activation=activation,
            use_bias=False,
            kernel_regularizer=keras.regularizers.L2(1e-4),
            kernel_initializer=_initializer(seed, index),
            name=name,
            dtype="float32",
        )

    def decoder(name: str, width: int, activation: str, index: int) -> Any:
        return layers.Dense(
            width,
            activation=activation,
            kernel_initializer=_initializer(seed, index),
            name=name,
            dtype="float32",
        )

    return _sequential(
        n_features,
        "reference",
        [
            layers.BatchNormalization(name="input_norm", dtype="float32"),
            encoder("encoder_1", hidden_size, "relu", 0),
            layers.BatchNormalization(name="hidden_norm", dtype="float32"),
            encoder("bottleneck", latent_size, "linear", 1),
            layers.LayerNormalization(name=LATENT, dtype="float32"),
            decoder("decoder_1", hidden_size, "relu", 2),
            decoder("reconstruction", n_features, "linear", 3),
        ],
    )


def _sequential(n_features: int, name: str, layers: list[Any]) -> Any:
    """Return the layers behind an input called ``features``, all in float32.

    The dtype is said for each layer because a user may have set another global policy.
    """
    _, keras = load_keras()
    start = keras.Input((n_features,), name="features", dtype="float32")
    return keras.Sequential([start, *layers], name=name)


def _initializer(seed: int, index: int) -> Any:
    """Return Keras's default initializer with a seed of its own."""
    _, keras = load_keras()
    return keras.initializers.GlorotUniform(seed=derived_seed(seed, index))


def _denoising_settings(n_rows: int) -> TrainingSettings:
    """Return 32-64 gradient steps per epoch, however many rows there are.

    Batches of 32 rows or a thirty-second of them, up to 256; and epochs of at most
    64 batches.
    """
    return TrainingSettings(
        epochs=200,
        batch_size=min(256, max(32, n_rows // 32)),
        learning_rate=1e-3,
        validation_share=0.2,
        patience=10,
        corruption=0.1,
        rows_per_epoch=64 * 256,
    )


def _reference_settings(n_rows: int) -> TrainingSettings:
    """Return the published settings, whatever the number of rows."""
    return TrainingSettings(
        epochs=30,
        batch_size=300,
        learning_rate=1e-3,
        validation_share=0.35,
        patience=5,
        corruption=0.0,
        rows_per_epoch=None,
    )


def _neighbours_settings(n_rows: int) -> TrainingSettings:
    """Return 30 epochs of 50 to 100 steps, on at most 10,000 shops.

    More shops would make the graph of neighbours finer than HDBSCAN can resolve, and
    its pairs would each be seen less often in the same time. All epochs are run and the
    last weights kept: the step size falls to 0, and it is in the last epochs that
    groups close up, while the neighbours of the few shops held out say little of it.
    """
    return TrainingSettings(
        epochs=30,
        batch_size=1024,
        learning_rate=5e-3,
        validation_share=0.1,
        patience=None,
        corruption=0.4,
        rows_per_epoch=10_000,
    )


ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            "neighbours",
            _build_symmetric,
            lambda n_features: 64,
            _neighbours_settings,
            keep_neighbours,
        ),
        Architecture(
            "denoising",
            _build_symmetric,
            lambda n_features: 64,
            _denoising_settings,
            restore_features,
        ),
        Architecture(
            "reference",
            _build_reference,
            lambda n_features: max(1, n_features // 2),
            _reference_settings,
            restore_features,
            can_start_warm=False,
        ),
    )
}
