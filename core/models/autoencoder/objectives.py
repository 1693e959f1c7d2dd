r"""What an autoencoder is trained for: neighbours kept together, features restored.

A parametric UMAP (Sainburg, McInnes and Gentner, 2021) with reconstruction. Each row's
nearest neighbours in the feature space get weights as in UMAP (McInnes, Healy and
Melville, 2018): 1 for the nearest, falling so that a row has as many effective
neighbours everywhere, dense or sparse. Pairs are drawn by these weights, and the
encoder learns to place them so that their similarity in the latent space,

.. math:: q = 1 / (1 + a d^{2b}),

is high, while pairs drawn at random get a low one: the loss is
:math:`-\log q` of a pair of neighbours, :math:`-\log(1 - q)` of each random pair, and
the mean squared error of the decoder. `a` and `b` are UMAP's for a minimal distance
of 0, which packs what is dense and leaves gaps where shops are rare: what HDBSCAN looks
for. Both ends of a pair are seen through Gaussian noise, so that what noise alone tells
apart cannot be learnt.

What it shows is not proof of groups: like UMAP, it separates data without structure,
too, which is why the structure check does not look at the latent space.

Losses mean what they mean in Keras: the mean squared error plus the layers' penalties,
averaged over the rows; validation is without noise, in inference mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from core.models.autoencoder import training
from core.models.seeding import derived_seed

N_NEIGHBOURS = 15
N_RANDOM_PAIRS = 5
# The decoder is a witness of what the latent space holds; a fourth of each batch does.
RECONSTRUCTED_PART = 4
STEPS_PER_EPOCH = (50, 100)
# UMAP's curve for min_dist 0 and spread 1.
CURVE_A, CURVE_B = 1.929, 0.7915
# Keeps the logarithm of 1 - q and the slope at distance 0 finite.
LEAST_DISSIMILARITY = 1e-4
LEAST_SQUARE = 1e-6
VALIDATION_PAIRS = 4096


class Pairs(NamedTuple):
    """Neighbours, with the chance of being drawn.

    Attributes
    ----------
    first, second : ndarray of int, shape (n_pairs,)
        Rows.
    cumulated : ndarray of float64, shape (n_pairs,)
        Cumulated weights, ending at 1.
    """

    first: npt.NDArray[np.int32]
    second: npt.NDArray[np.int32]
    cumulated: npt.NDArray[np.float64]

    def draw(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int32]:
        """Return `n` pairs drawn by weight, shape (2, n), either end first."""
        found = np.searchsorted(self.cumulated, rng.random(n))
        chosen = np.minimum(found, len(self.first) - 1)
        ends = np.stack([self.first[chosen], self.second[chosen]])
        is_turned = rng.random(n) < 0.5
        return np.where(is_turned, ends[::-1], ends)


def neighbour_pairs(rows: training.Rows) -> Pairs:
    """Weigh every row's nearest neighbours as UMAP does.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        At least two.
    """
    from scipy.sparse import csr_array
    from sklearn.neighbors import NearestNeighbors

    k = min(N_NEIGHBOURS, len(rows) - 1)
    # In double precision: squares of large values still have room, ties stay apart.
    search = NearestNeighbors(n_neighbors=k).fit(rows.astype(np.float64))
    distances, indices = search.kneighbors()  # without the row itself
    weights = _membership(distances)
    n = len(rows)
    start = np.repeat(np.arange(n), k)
    directed = csr_array((weights.ravel(), (start, indices.ravel())), shape=(n, n))
    # A pair counts unless both ends disown it: the probabilistic sum of both views.
    both = (directed + directed.T - directed.multiply(directed.T)).tocoo()
    is_upper = both.row < both.col
    first, second = both.row[is_upper], both.col[is_upper]
    weight = both.data[is_upper]
    cumulated = np.cumsum(weight) / weight.sum()
    return Pairs(first.astype(np.int32), second.astype(np.int32), cumulated)


def _membership(distances: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return weights ``exp(-(d - d_nearest) / s)`` that sum to log2 of their number.

    ``s`` is found by bisection for each row.
    """
    beyond = distances - distances[:, :1]
    target = np.log2(max(distances.shape[1], 2))
    low, high = np.zeros(len(beyond)), np.full(len(beyond), np.inf)
    scale = np.ones(len(beyond))
    for _ in range(48):
        is_wide = np.exp(-beyond / scale[:, None]).sum(axis=1) > target
        high = np.where(is_wide, scale, high)
        low = np.where(is_wide, low, scale)
        scale = np.where(np.isinf(high), 2 * scale, (low + high) / 2)
        scale = np.clip(scale, 1e-9, 1e9)
    return np.asarray(np.exp(-beyond / scale[:, None]))


@contextmanager
def keep_neighbours(
    model: Any,
    rows: training.Rows,
    settings: training.TrainingSettings,
    seed: int,
    rng: np.random.Generator,
) -> Iterator[training.Session]:
    """Lend a session that trains encoder and decoder of `model` on pairs of rows."""
    tf, keras = training.load_keras()
    fitted, held_out = training.split_rows(len(rows), settings, rng)
    fitted = np.sort(fitted[: settings.rows_per_epoch])
    # A pair of held-out shops needs two of them.
    held_out = np.sort(held_out) if len(held_out) > 1 else fitted
    pairs, held_out_pairs = (
        neighbour_pairs(rows[fitted]),
        neighbour_pairs(rows[held_out]),
    )
    size = settings.batch_size
    # Of few shops every pair is seen the more often: they need no fewer steps.
    n_steps = int(np.clip(2 * len(pairs.first) // size, *STEPS_PER_EPOCH))
    n_in_all = settings.epochs * n_steps
    schedule = keras.optimizers.schedules.CosineDecay(settings.learning_rate, n_in_all)
    data, held_out_data = tf.constant(rows[fitted]), tf.constant(rows[held_out])
    checked = held_out_pairs.draw(VALIDATION_PAIRS, rng)
    turns = _turns(VALIDATION_PAIRS, 1, rng)[0]
    differing = settings.learning_rate, n_in_all, settings.corruption
    with training.program(
        model, schedule, settings, _compile_neighbours, *differing
    ) as program:

        def run_epoch(epoch: int) -> float:
            drawn = pairs.draw(n_steps * size, rng).reshape(2, n_steps, size)
            noise_seed = np.int32(derived_seed(seed, training.NOISE_SEED + epoch))
            steps = (drawn.transpose(1, 0, 2), _turns(size, n_steps, rng), noise_seed)
            values = (tf.constant(value) for value in steps)
            return float(program.run_epoch(data, *values))

        def validate() -> float:
            pairs_and_turns = tf.constant(checked), tf.constant(turns)
            return float(program.validate(held_out_data, *pairs_and_turns))

        yield training.Session(program.model, run_epoch, validate)


def _turns(size: int, n_steps: int, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Return by how many places each step turns the second ends for random pairs."""
    return rng.integers(1, size, (n_steps, N_RANDOM_PAIRS)).astype(np.int32)


def _loss_of(model: Any) -> Callable[[Any, Any, Any, Any], Any]:
    """Return the loss of pairs: (first ends, second ends, clean first ends, turns)."""
    tf, _ = training.load_keras()
    cut = [layer.name for layer in model.layers].index("latent") + 1

    def through(layers: Any, values: Any) -> Any:
        for layer in layers:
            values = layer(values)
        return values

    def log_similarity(one: Any, other: Any) -> Any:
        square = tf.reduce_sum(tf.math.squared_difference(one, other), axis=-1)
        return -tf.math.log1p(CURVE_A * tf.pow(square + LEAST_SQUARE, CURVE_B))

    def loss_of(first: Any, second: Any, clean: Any, turns: Any) -> Any:
        one = through(model.layers[:cut], first)
        other = through(model.layers[:cut], second)
        loss = -tf.reduce_mean(log_similarity(one, other))
        turned = [tf.roll(other, turns[i], axis=0) for i in range(N_RANDOM_PAIRS)]
        similarity = tf.exp(log_similarity(one, tf.stack(turned)))
        apart = tf.math.log(1.0 - similarity + LEAST_DISSIMILARITY)
        loss -= tf.reduce_mean(tf.reduce_sum(apart, axis=0))
        n = tf.shape(one)[0] // RECONSTRUCTED_PART
        restored = through(model.layers[cut:], one[:n])
        return loss + tf.reduce_mean(tf.math.squared_difference(restored, clean[:n]))

    return loss_of


def _compile_neighbours(
    model: Any, optimizer: Any, settings: training.TrainingSettings
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return a function that runs one epoch, and one that validates."""
    tf, _ = training.load_keras()
    variables, loss_of = model.trainable_variables, _loss_of(model)

    def step(first: Any, second: Any, turns: Any, seed: Any) -> Any:
        noise = tf.random.stateless_normal(tf.shape(first), seed)
        noise = settings.corruption * noise
        # Drawing noise takes long: the second ends get that of other pairs.
        one, other = first + noise, second + tf.roll(noise, turns[0], axis=0)
        with tf.GradientTape() as tape:
            loss = loss_of(one, other, first, turns)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    def run_epoch(data: Any, drawn: Any, turns: Any, noise_seed: Any) -> Any:
        def step_at(at: Any) -> Any:
            first, second = tf.gather(data, drawn[at, 0]), tf.gather(data, drawn[at, 1])
            return step(first, second, turns[at], tf.stack([noise_seed, at]))

        n_steps = tf.shape(drawn)[0]
        return training.summed(n_steps, step_at) / tf.cast(n_steps, tf.float32)

    def validate(data: Any, pairs: Any, turns: Any) -> Any:
        first, second = tf.gather(data, pairs[0]), tf.gather(data, pairs[1])
        return loss_of(first, second, first, turns)

    def integers(*shape: int | None) -> Any:
        return tf.TensorSpec(shape, tf.int32)

    table = tf.TensorSpec([None, model.input_shape[1]], tf.float32)
    turns = integers(None, N_RANDOM_PAIRS)
    run = training.traced(run_epoch, table, integers(None, 2, None), turns, integers())
    check = training.traced(
        validate, table, integers(2, None), integers(N_RANDOM_PAIRS)
    )
    return run, check


@contextmanager
def restore_features(
    model: Any,
    rows: training.Rows,
    settings: training.TrainingSettings,
    seed: int,
    rng: np.random.Generator,
) -> Iterator[training.Session]:
    """Lend a session that trains `model` to restore the rows from noisy ones."""
    tf, _ = training.load_keras()
    fitted, held_out = training.split_rows(len(rows), settings, rng)
    n_drawn = min(len(fitted), settings.rows_per_epoch or len(fitted))
    data, held_out_data = tf.constant(rows[fitted]), tf.constant(rows[held_out])
    pace = settings.learning_rate
    differing = pace, settings.batch_size, settings.corruption
    with training.program(
        model, pace, settings, _compile_restoring, *differing
    ) as program:

        def run_epoch(epoch: int) -> float:
            order = rng.choice(len(fitted), n_drawn, replace=False).astype(np.int32)
            noise_seed = np.int32(derived_seed(seed, training.NOISE_SEED + epoch))
            return float(
                program.run_epoch(data, tf.constant(order), tf.constant(noise_seed))
            )

        def validate() -> float:
            return float(program.validate(held_out_data))

        yield training.Session(program.model, run_epoch, validate)


def _compile_restoring(
    model: Any, optimizer: Any, settings: training.TrainingSettings
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return a function that runs one epoch, and one that validates."""
    tf, _ = training.load_keras()
    variables = model.trainable_variables
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
        def step_at(at: Any) -> Any:
            start = at * size
            batch = tf.gather(data, order[start : start + size])
            loss = step(batch, tf.stack([noise_seed, start]))
            return loss * tf.cast(tf.shape(batch)[0], tf.float32)

        n_rows = tf.shape(order)[0]
        n_steps = (n_rows + size - 1) // size
        return training.summed(n_steps, step_at) / tf.cast(n_rows, tf.float32)

    def validate(held_out: Any) -> Any:
        return loss_of(held_out, held_out, False)

    table = tf.TensorSpec([None, model.input_shape[1]], tf.float32)
    order, seed = tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32)
    return training.traced(run_epoch, table, order, seed), training.traced(
        validate, table
    )
