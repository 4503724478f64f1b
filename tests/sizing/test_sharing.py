"""The predicted gain of a step is that of its parts."""

from dataclasses import replace

import pytest

from gmpo_vl.batching.planning import Shape
from gmpo_vl.sizing.cost import Rates, unique_token_bound
from gmpo_vl.sizing.sharing import StepPasses, step_gain

RATES = Rates(token=1000, pair=1, position=500, patch=100, picture_pair=1)
GROUPS = [Shape(200, (30, 60, 10, 20), ((1, 16, 16),)), Shape(80, (50, 50, 50, 50))]


def test_the_update_of_one_group_gains_the_unique_token_bound():
    for checkpointing in (False, True):
        phases = {
            p.phase: p
            for p in step_gain(
                RATES, StepPasses(checkpointing=checkpointing), GROUPS[:1], GROUPS[:1], GROUPS[:1]
            )
        }
        bound = unique_token_bound(RATES, GROUPS[0], checkpointing)
        assert phases["update"].times_less == pytest.approx(bound)


def test_a_step_is_the_sum_of_its_phases():
    *phases, whole = step_gain(RATES, StepPasses(with_reference=True, updates=2), GROUPS, GROUPS, GROUPS)
    assert [p.phase for p in phases] == ["generation", "old log-probs", "reference log-probs", "update"]
    assert whole.plain == sum(p.plain for p in phases)
    assert phases[3].shared == 2 * 3 * phases[1].shared
    assert 1 < whole.times_less < 4


def test_a_frozen_tower_is_looked_through_once_a_step():
    trained, frozen = (
        step_gain(RATES, StepPasses(frozen_vision=value), GROUPS, GROUPS, GROUPS) for value in (False, True)
    )
    picture = 16 * 16 * (100 + 16 * 16)
    assert trained[0].shared == frozen[0].shared
    assert trained[1].shared - frozen[1].shared == pytest.approx(picture)
    assert frozen[1].plain == trained[1].plain
    assert frozen[2].plain < trained[2].plain


def test_a_single_response_gains_nothing():
    alone = [Shape(100, (40,))]
    assert [p.times_less for p in step_gain(RATES, StepPasses(with_reference=True), alone, alone, alone)] == [
        1.0
    ] * 5


def test_a_group_in_parts_gains_less():
    whole, halves = Shape(100, (40,) * 8), [Shape(100, (40,) * 4)] * 2
    generation, old, update, _ = step_gain(RATES, StepPasses(), [whole], [whole], halves)
    assert old.times_less == generation.times_less > update.times_less > 1


def test_a_sampler_of_its_own_shares_anyway_and_leaves_the_look_to_the_first_pass():
    frozen = StepPasses(frozen_vision=True)
    own, other = (
        step_gain(RATES, replace(frozen, with_reference=True, own_sampler=value), GROUPS, GROUPS, GROUPS)
        for value in (True, False)
    )
    picture = 16 * 16 * (100 + 16 * 16)
    assert other[0].times_less == 1.0
    assert other[0].shared == own[0].shared
    assert other[1].shared - own[1].shared == pytest.approx(picture)
    assert other[2].shared == own[2].shared
    assert other[3].shared == own[3].shared
    passes = replace(frozen, with_old=False, updates=2, own_sampler=False)
    _, update, _ = step_gain(RATES, passes, GROUPS, GROUPS, GROUPS)
    assert update.shared - 2 * own[3].shared == pytest.approx(picture)
