"""Randomness that is repeatable and leaves nothing behind.

TensorFlow and Keras are left out of `seeded` on purpose. Their global seeds can be set
through public API, but not read, so what a user had set could not be put back; and
`tf.config.experimental.enable_op_determinism` has no public counterpart that turns it
off, while it makes every later unseeded random operation of the whole process an error.
So nothing in this package draws from, sets or depends on TensorFlow's global state:
weights are initialised with seeds of their own (`derived_seed`), noise comes from
stateless operations, the order of the rows from NumPy, and training uses CPU kernels
that are deterministic without the global switch (tests compare the bytes of whole
trainings across processes, and with the switch on).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def seeded(seed: int) -> Iterator[np.random.Generator]:
    """Seed Python's `random` and NumPy's global state; restore both at the end.

    Both are seeded because libraries draw from them unasked (Keras names a default seed
    with `random`). Own code uses the generator that is yielded.

    Parameters
    ----------
    seed : int
        From 0 to 2**32 - 1, the range that NumPy accepts.

    Yields
    ------
    numpy.random.Generator
        Independent of the global state.

    Examples
    --------
    >>> with seeded(42) as rng:
    ...     first = random.random(), float(rng.random())
    >>> with seeded(42) as rng:
    ...     first == (random.random(), float(rng.random()))
    True
    """
    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002  the legacy state is the point
    try:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  as above
        yield np.random.default_rng(seed)
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002  as above


def derived_seed(seed: int, index: int) -> int:
    """Return the `index`-th of independent seeds that follow from one, below 2**31.

    >>> derived_seed(42, 0) != derived_seed(42, 1)
    True
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(index,))
    return int(sequence.generate_state(1)[0] >> 1)
