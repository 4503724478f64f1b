"""Estimates against brute force, and against simulations whose truth is known."""

from itertools import combinations, product

import numpy as np
import pytest

from gmpo_vl.evaluation.at_k import all_at_k, majority_at_k, pass_at_k
from gmpo_vl.evaluation.statistics import (
    mean_over_questions,
    mean_share,
    paired_difference,
    seeds_for_power,
    two_level_difference,
    unpaired_difference,
)


def test_the_best_and_the_worst_of_k_are_what_counting_every_subset_gives():
    n = 7
    for c in range(n + 1):
        samples = [1] * c + [0] * (n - c)
        for k in range(1, n + 1):
            subsets = list(combinations(samples, k))
            expected = sum(any(s) for s in subsets) / len(subsets)
            assert pass_at_k(np.array([c]), n, k)[0] == pytest.approx(expected, abs=1e-12)
            worst = sum(all(s) for s in subsets) / len(subsets)
            assert all_at_k(np.array([c]), n, k)[0] == pytest.approx(worst, abs=1e-12)


@pytest.mark.parametrize("at_k", [pass_at_k, all_at_k])
@pytest.mark.parametrize("k", [0, 4])
def test_more_samples_than_there_are_are_refused(at_k, k):
    with pytest.raises(ValueError, match="1 to n=3"):
        at_k(np.array([1]), 3, k)


def brute_majority(answers, correct, k):
    right = {a for a, ok in zip(answers, correct) if ok}
    scores = []
    for subset in combinations(answers, k):
        votes = [a for a in subset if a is not None]
        most = max((votes.count(a) for a in votes), default=0)
        leaders = {a for a in votes if votes.count(a) == most}
        scores.append(len(leaders & right) / len(leaders) if leaders else 0.0)
    return float(np.mean(scores))


def test_majority_is_exact_for_all_samples_and_near_the_enumeration_for_some():
    for answers in product([1, 2, None], repeat=4):
        correct = [a == 1 for a in answers]
        assert majority_at_k(answers, correct, 4) == pytest.approx(brute_majority(answers, correct, 4))
    answers = [1, 1, 2, 2, 2, None, 3, 1]
    correct = [a == 1 for a in answers]
    for k in (1, 3, 5):
        assert majority_at_k(answers, correct, k) == pytest.approx(
            brute_majority(answers, correct, k), abs=0.08
        )


def test_an_answer_is_right_where_most_of_its_samples_are():
    """A grader can refuse one spelling of a right answer, or take one of a wrong one."""
    assert majority_at_k([0, 0, 0, 1], [True, True, False, False], 4) == 1.0
    assert majority_at_k([0, 0, 0, 1], [True, False, False, True], 4) == 0.0
    assert majority_at_k([0, 0, 1], [True, False, True], 3) == 0.5


@pytest.mark.parametrize(("questions", "n"), [(60, 16), (200, 1)])
def test_intervals_cover_the_truth_95_times_in_100(questions, n):
    """Questions of their own difficulty: what is estimated is the mean over all questions there could be."""
    generator = np.random.default_rng(1)
    trials, covered = 300, 0
    for trial in range(trials):
        difficulty_Q = generator.beta(0.6, 0.9, questions)  # mean 0.4
        estimate = mean_share(generator.binomial(n, difficulty_Q) / n, seed=trial)
        covered += estimate.low <= 0.4 <= estimate.high
    assert 0.93 <= covered / trials <= 0.97


def test_always_wrong_is_not_certain():
    never, always = mean_share(np.zeros(30)), mean_share(np.ones(30))
    assert (never.low, never.high) == (0.0, pytest.approx(0.1157, abs=1e-4))  # Clopper-Pearson, 0 of 30
    assert (always.low, always.high) == (pytest.approx(1 - 0.1157, abs=1e-4), 1.0)
    assert (mean_over_questions(np.zeros(30)).low, mean_over_questions(np.zeros(30)).high) == (0, 0)


def test_two_graders_who_agree_on_every_question_may_part_on_others():
    same = paired_difference(np.full(30, 0.5), np.full(30, 0.5))
    assert (same.value, same.low, same.high) == (
        0.0,
        pytest.approx(-0.1157, abs=1e-4),
        pytest.approx(0.1157, abs=1e-4),
    )


def test_a_planted_two_point_gain_is_found_when_paired_and_missed_when_not():
    generator = np.random.default_rng(3)
    found = missed = 0
    for _ in range(20):
        difficulty_Q = generator.uniform(0, 0.98, 601)
        a_Q = generator.binomial(16, difficulty_Q) / 16
        b_Q = generator.binomial(16, difficulty_Q + 0.02) / 16
        found += paired_difference(a_Q, b_Q).low > 0
        unpaired = unpaired_difference(a_Q, b_Q)
        missed += unpaired.low < 0 < unpaired.high
    assert found >= 18
    assert missed >= 18


def runs(generator, difficulty_Q, seeds, gain, between_seeds):
    shift_S = generator.normal(gain, between_seeds, seeds)
    chance_SQ = np.clip(difficulty_Q + shift_S[:, None], 0, 1)
    return generator.binomial(16, chance_SQ) / 16


def test_seeds_that_differ_widen_the_interval():
    generator = np.random.default_rng(0)
    difficulty_Q = generator.uniform(0.1, 0.9, 300)
    widths = []
    for between in (0.0, 0.05):
        a, b = (runs(generator, difficulty_Q, 5, gain, between) for gain in (0.0, 0.02))
        difference = two_level_difference(a, b)
        assert difference.paired_by_seed
        widths.append(difference.estimate.high - difference.estimate.low)
    assert widths[1] > 2 * widths[0]


def test_no_difference_is_rarely_significant_and_a_large_one_always():
    generator = np.random.default_rng(0)
    difficulty_Q = generator.uniform(0.1, 0.9, 200)
    false = [
        two_level_difference(*(runs(generator, difficulty_Q, 1, 0, 0) for _ in "ab")).p_value < 0.05
        for _ in range(30)
    ]
    assert sum(false) <= 5
    a, b = (runs(generator, difficulty_Q, 3, gain, 0.01) for gain in (0, 0.1))
    assert two_level_difference(a, b).p_value < 0.001


def test_one_seed_says_nothing_about_seeds_and_unequal_numbers_are_not_paired():
    values = np.random.default_rng(0).random((3, 20))
    one = two_level_difference(values[:1], values[1:2])
    assert (one.seed_deviation, one.seeds_needed) == (None, None)
    assert not two_level_difference(values[:1], values[1:]).paired_by_seed
    with pytest.raises(ValueError, match="must be the same"):
        two_level_difference(values, values[:, :10])


@pytest.mark.parametrize("seeds", [1, 3])
def test_questions_that_all_gain_the_same_are_no_proof(seeds):
    one = two_level_difference(np.zeros((seeds, 1)), np.ones((seeds, 1)))
    assert one.p_value == 1
    assert (one.estimate.low, one.estimate.high) == (pytest.approx(1 - 2 * 0.975), 1)
    assert one.unpaired == one.estimate
    five = two_level_difference(np.full((seeds, 5), 0.25), np.full((seeds, 5), 0.5))
    assert five.p_value == pytest.approx(2 * 0.5**5)  # 5 of 5 heads, two-sided
    other = 0.5218  # Clopper-Pearson, 0 of 5
    assert five.estimate.low == pytest.approx(0.25 - other * 1.25, abs=1e-3)
    assert five.estimate.high == pytest.approx(0.25 + other * 0.75, abs=1e-3)
    same = two_level_difference(np.ones((seeds, 30)), np.ones((seeds, 30)))
    assert (same.p_value, same.estimate.value) == (1, 0)
    assert same.estimate.high == pytest.approx(0.1157, abs=1e-4)
    two = two_level_difference(np.zeros((seeds, 2)), np.tile([0.5, 1.0], (seeds, 1)))
    assert two.p_value == 0.5, "no sign test of two questions gets below"


def test_the_seeds_needed_do_reach_80_percent_power():
    """Simulated t-tests at 5% with the number that was given, and with one below half of it."""
    difference, deviation = 0.02, 0.02
    needed = seeds_for_power(difference, deviation)
    assert needed is not None
    generator = np.random.default_rng(0)
    # two-sided 5% points of Student's t
    critical = {4: 3.182, 10: 2.262}
    assert needed == 10

    def power(seeds: int) -> float:
        draws = generator.normal(difference, deviation, (4000, seeds))
        t = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / np.sqrt(seeds))
        return float((np.abs(t) > critical[seeds]).mean())

    assert 0.78 <= power(needed) <= 0.86
    assert power(4) < 0.5
    assert seeds_for_power(0.0, deviation) is None
