"""Ranks get whole groups, equally many, and nearly the same work."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gmpo_vl.batching.planning import rows_of
from gmpo_vl.sizing.cost import Rates
from gmpo_vl.sizing.ranks import deal, group_cost, group_operations
from gmpo_vl.types import Example, Group, Prompt, Response

RATES = Rates(token=1000, pair=1, position=500, patch=100, picture_pair=1)


@given(st.integers(1, 8), st.integers(1, 12), st.data())
def test_every_group_goes_to_one_rank_and_every_rank_gets_as_many(ranks, each, data):
    costs = data.draw(st.lists(st.floats(0, 1e15), min_size=ranks * each, max_size=ranks * each))
    dealt = deal(costs, ranks)
    assert [len(indices) for indices in dealt] == [each] * ranks
    assert sorted(i for indices in dealt for i in indices) == list(range(len(costs)))
    sums = [sum(costs[i] for i in indices) for indices in dealt]
    assert max(sums) - min(sums) <= (max(costs) - min(costs)) * (1 + 1e-9) + 1e-6


def test_sixteen_groups_a_rank_of_mixed_costs_are_within_a_percent_of_each_other():
    costs = (1 + 9 * torch.rand(128, generator=torch.Generator().manual_seed(0)) ** 2).tolist()
    sums = [sum(costs[i] for i in indices) for indices in deal(costs, 8)]
    assert max(sums) / (sum(sums) / 8) < 1.01
    in_order = [sum(costs[16 * rank : 16 * rank + 16]) for rank in range(8)]
    assert max(in_order) / (sum(sums) / 8) > 1.1


def test_groups_that_cannot_be_dealt_equally_are_refused():
    with pytest.raises(ValueError, match="6 groups cannot be dealt to 4 ranks"):
        deal([1.0] * 6, 4)


def make_group(prompt: int, lengths: list[int], side: int) -> Group:
    grid_N3 = torch.tensor([[1, side, side]]) if side else torch.empty((0, 3), dtype=torch.int64)
    ids_P = torch.zeros(prompt, dtype=torch.int64)
    made = Prompt(Example("0", "", ""), "", ids_P, (), grid_N3, torch.zeros((3, prompt)))
    responses = [Response(torch.zeros(n), torch.zeros(n), "", True, 0) for n in lengths]
    return Group("0", made, responses)


def test_a_large_picture_costs_more_than_the_same_number_of_words():
    words, picture = make_group(200, [10, 30], side=0), make_group(200, [10, 30], side=24)
    assert group_cost(RATES, rows_of([picture])) - group_cost(RATES, rows_of([words])) == 3 * 24**2 * (
        100 + 24**2
    )
    rows = rows_of([picture])
    assert group_cost(RATES, rows, share_prefix=False) > group_cost(RATES, rows)
    assert group_cost(RATES, rows, checkpointing=True) > group_cost(RATES, rows) > group_cost(RATES, rows[:1])
    assert group_cost(RATES, []) == 0


def test_operations_of_an_update_are_those_of_what_is_run():
    rows = rows_of([make_group(200, [10, 30], side=4)])
    once = 200 * 1000 + 200**2 / 2 + 4 * 4 * (100 + 4 * 4)  # the prompt and its picture
    answers = [(n - 1) * 1000 + (n - 1) * 200 + (n - 1) ** 2 / 2 + n * 500 for n in (10, 30)]
    assert group_operations(RATES, rows) == 3 * (once + sum(answers))
    assert group_operations(RATES, rows, share_prefix=False) == 3 * (2 * once + sum(answers))
    assert group_operations(RATES, rows[:1]) == 3 * (once + answers[0])
    assert group_operations(RATES, rows, frozen_vision=True) == group_operations(RATES, rows) - 2 * 1856
    assert group_operations(RATES, []) == 0
