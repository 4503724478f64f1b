import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmpo_vl.data.examples import EpochOrder


@given(st.integers(1, 50), st.integers(-5, 2**40), st.integers(0, 200), st.integers(0, 120), st.booleans())
def test_a_resumed_run_continues_where_it_stopped(num_examples, seed, position, count, shuffle):
    """One long read equals any two reads that meet: position is all the state there is."""
    order = EpochOrder(num_examples, seed, shuffle)
    half = count // 3
    again = EpochOrder(num_examples, seed, shuffle)
    assert order.take(position, count) == again.take(position, half) + again.take(
        position + half, count - half
    )


@given(st.integers(1, 50), st.integers(0, 1000), st.integers(1, 4))
def test_every_epoch_holds_every_example_once(num_examples, seed, epochs):
    taken = np.array(EpochOrder(num_examples, seed).take(0, num_examples * epochs)).reshape(
        epochs, num_examples
    )
    assert np.array_equal(np.sort(taken, axis=1), np.tile(np.arange(num_examples), (epochs, 1)))


def test_epochs_and_seeds_differ_and_the_unshuffled_order_is_the_files():
    order = EpochOrder(100, seed=1)
    assert order.take(0, 100) != order.take(100, 100)
    assert order.take(0, 100) != EpochOrder(100, seed=2).take(0, 100)
    assert EpochOrder(4, seed=1, shuffle=False).take(3, 6) == [3, 0, 1, 2, 3, 0]
    assert [order.epoch(p) for p in (0, 99, 100)] == [0, 0, 1]


def test_the_order_of_a_seed_never_changes():
    """Runs are resumed under other versions of numpy: these numbers must stay."""
    assert EpochOrder(10, seed=1).take(0, 20) == [3, 5, 2, 9, 7, 0, 8, 6, 1, 4, 0, 6, 5, 3, 4, 9, 7, 8, 2, 1]


def test_no_examples_is_an_error():
    with pytest.raises(ValueError, match="no examples"):
        EpochOrder(0, seed=1)
