"""Micro-batches: every row once, within the limits, groups whole where they fit."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from gmpo_vl.batching.planning import Limits, micro_batches, mini_batches, rows_of
from gmpo_vl.types import Example, Group, Prompt, Response


def group(key: str, prompt_length: int, lengths: list[int]) -> Group:
    ids = torch.zeros(prompt_length, dtype=torch.int64)
    prompt = Prompt(Example(key, "", ""), "", ids, (), torch.zeros((0, 3)), ids.expand(3, -1))
    responses = [Response(torch.zeros(n, dtype=torch.int64), torch.zeros(n), "", True, 0) for n in lengths]
    return Group(key, prompt, responses)


groups_strategy = st.lists(
    st.tuples(st.integers(1, 40), st.lists(st.integers(1, 60), min_size=1, max_size=6)),
    min_size=1,
    max_size=8,
).map(lambda shapes: [group(str(i), p, lengths) for i, (p, lengths) in enumerate(shapes)])
limit = st.one_of(st.none(), st.integers(1, 12)), st.one_of(st.none(), st.integers(1, 400)), st.booleans()


@given(groups_strategy, *limit)
def test_every_row_runs_once_and_within_the_limits(groups, max_rows, max_tokens, share_prefix):
    limits = Limits(max_rows, max_tokens, share_prefix)
    batches = micro_batches(rows_of(groups), limits)
    assert sorted((r.group.key, r.k) for b in batches for r in b) == sorted(
        (g.key, k) for g in groups for k in range(len(g.responses))
    )
    for batch in batches:
        assert batch
        if len(batch) > 1:
            assert max_rows is None or len(batch) <= max_rows
            assert max_tokens is None or limits.tokens(batch) <= max_tokens


@given(groups_strategy, *limit)
def test_a_group_is_split_only_when_it_does_not_fit(groups, max_rows, max_tokens, share_prefix):
    limits = Limits(max_rows, max_tokens, share_prefix)
    batches = micro_batches(rows_of(groups), limits)
    for g in groups:
        parts = sum(any(r.group is g for r in batch) for batch in batches)
        assert (parts == 1) == limits.allow(rows_of([g]))


def test_a_shared_prompt_is_counted_once():
    rows = rows_of([group("a", 100, [10, 20])])
    assert Limits().tokens(rows) == 130
    assert Limits(share_prefix=False).tokens(rows) == 2 * 120


def test_mini_batches_are_consecutive_groups():
    groups = [group(str(i), 3, [1, 2]) for i in range(7)]
    assert [[g.key for g in batch] for batch in mini_batches(groups, 3)] == [
        ["0", "1", "2"],
        ["3", "4", "5"],
        ["6"],
    ]
