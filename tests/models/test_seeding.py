import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.models.seeding import derived_seed, seeded


def draw() -> list[float]:
    return [random.random(), float(np.random.random()), float(np.random.normal())]  # noqa: NPY002  the global state is what is tested


@given(st.integers(0, 2**32 - 1))
def test_same_seed_draws_the_same_everywhere(seed):
    with seeded(seed) as rng:
        first = [*draw(), rng.random()]
    with seeded(seed) as rng:
        assert [*draw(), rng.random()] == first


def test_global_state_goes_on_as_if_nothing_had_happened():
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  the global state is what is tested
    np.random.normal()  # noqa: NPY002  leaves a second normal value in store
    random.gauss(0, 1)
    undisturbed = (random.getstate(), np.random.get_state())  # noqa: NPY002
    with seeded(7):
        draw()
        random.gauss(0, 1)
    assert random.getstate() == undisturbed[0]
    for before, after in zip(undisturbed[1], np.random.get_state(), strict=True):  # noqa: NPY002
        assert np.array_equal(before, after)


def test_global_state_is_restored_after_an_error():
    before = random.getstate()
    with pytest.raises(ZeroDivisionError), seeded(7):
        random.seed(1 // 0)
    assert random.getstate() == before


def test_nested_seeds_do_not_disturb_one_another():
    with seeded(1):
        alone = [draw(), draw()]
    with seeded(1):
        first = draw()
        with seeded(2):
            draw()
        assert [first, draw()] == alone


def test_derived_seeds_differ_and_fit_a_signed_32_bit_integer():
    seeds = [derived_seed(seed, i) for seed in (0, 42, 2**32 - 1) for i in range(300)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
