"""The objective of a plain or denoising autoencoder: restore the clean features.

Losses mean what they mean in Keras: the mean squared error plus the layers' penalties,
averaged over the rows; validation is without noise, in inference mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from core.representation.keras_backend import load_keras
from core.representation.seeding import derived_seed
from core.representation.session import (
    NOISE_SEED,
    Rows,
    Session,
    TrainingSettings,
    split_rows,
    traced,
)


def restore_features(
    model: Any,
    rows: Rows,
    settings: TrainingSettings,
    seed: int,
    rng: np.random.Generator,
) -> Session:
    """Return a session that trains `model` to restore the rows from noisy ones."""
    tf, keras = load_keras()
    fitted, held_out = split_rows(len(rows), settings, rng)
    n_drawn = min(len(fitted), settings.rows_per_epoch or len(fitted))
    optimizer = keras.optimizers.Adam(settings.learning_rate)
    run, validate = _compile(model, optimizer, settings)
    data, held_out_data = tf.constant(rows[fitted]), tf.constant(rows[held_out])

    # Its argument keeps the optimizer alive: compiled functions keep no variables.
    def run_epoch(epoch: int, _optimizer: Any = optimizer) -> float:
        order = rng.choice(len(fitted), n_drawn, replace=False).astype(np.int32)
        noise_seed = np.int32(derived_seed(seed, NOISE_SEED + epoch))
        return float(run(data, tf.constant(order), tf.constant(noise_seed)))

    return Session(run_epoch, lambda: float(validate(held_out_data)))


def _compile(
    model: Any, optimizer: Any, settings: TrainingSettings
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return a function that runs one epoch, and one that validates."""
    tf, _ = load_keras()
    variables = model.trainable_variables
    optimizer.build(variables)
    size = settings.batch_size

    def loss_of(inputs: Any, targets: Any, is_training: bool) -> Any:
        error = tf.math.squared_difference(model(inputs, training=is_training), targets)
        return tf.add_n([tf.reduce_mean(error), *model.losses])

    def step(batch: Any, seed: Any) -> Any:
        inputs = batch
        if settings.corruption > 0:
            noise = tf.random.stateless_normal(tf.shape(batch), seed)
            inputs = batch + settings.corruption * noise
        with tf.GradientTape() as tape:
            loss = loss_of(inputs, batch, True)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    def run_epoch(data: Any, order: Any, noise_seed: Any) -> Any:
        n_rows = tf.shape(order)[0]
        total = tf.constant(0.0)
        for start in tf.range(0, n_rows, size):
            batch = tf.gather(data, order[start : start + size])
            loss = step(batch, tf.stack([noise_seed, start]))
            total += loss * tf.cast(tf.shape(batch)[0], tf.float32)
        return total / tf.cast(n_rows, tf.float32)

    def validate(held_out: Any) -> Any:
        return loss_of(held_out, held_out, False)

    table = tf.TensorSpec([None, model.input_shape[1]], tf.float32)
    order, seed = tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32)
    return traced(run_epoch, table, order, seed), traced(validate, table)
