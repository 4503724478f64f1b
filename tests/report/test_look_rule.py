"""The warning about blind answers: when it begins, when it does not, and that the page says the same."""

import json

import pytest

from gmpo_vl.engines.loggers import Console
from gmpo_vl.report import write_report
from gmpo_vl.report.look import SHARE, blind_warnings, half_width, look_charts, risen

RISING = [0.2 + 0.02 * step + 0.01 * (step % 2) for step in range(30)]


def lines(looks: dict[int, tuple[float, float, float]], rewards: list[float], prompts: float = 64) -> list:
    """looks: {step: (accuracy, gap, its standard error)}. rewards: of steps 1, 2, ..."""
    found = []
    for step in range(len(rewards) + 1):
        row = {"step": step} | ({"reward/accuracy": rewards[step - 1]} if step else {})
        if step in looks:
            keys = ("look/accuracy", "look/accuracy_gap", "look/accuracy_gap_se")
            row |= dict(zip(keys, looks[step])) | {"look/prompts": prompts}
        found.append(row)
    return found


LOOKS, BLIND = (0.5, 0.4, 0.05), (0.6, 0.01, 0.02)


def steps(*arguments, **more) -> list[int]:
    return [warning.step for warning in blind_warnings(lines(*arguments, **more))]


def test_it_begins_at_the_second_blind_measurement_and_is_said_once():
    assert steps({0: LOOKS, 10: LOOKS, 15: BLIND, 20: BLIND, 25: BLIND, 30: BLIND}, RISING) == [20]


def test_it_can_begin_again():
    looks = {10: BLIND, 15: BLIND, 20: LOOKS, 25: BLIND, 30: BLIND}
    assert steps(looks, RISING) == [15, 30]


def test_one_blind_measurement_is_not_enough():
    assert steps({10: LOOKS, 15: BLIND, 20: LOOKS, 25: BLIND, 30: LOOKS}, RISING) == []


def test_a_policy_that_never_looked_is_told_too():
    assert steps({0: BLIND, 10: BLIND, 20: BLIND}, RISING) == [10]


def test_nothing_is_said_where_the_reward_does_not_rise():
    flat = [0.5 + 0.1 * (step % 2) for step in range(30)]
    assert steps({10: BLIND, 20: BLIND, 30: BLIND}, flat) == []
    assert steps({10: BLIND, 20: BLIND, 30: BLIND}, RISING[::-1]) == []


def test_a_wide_interval_says_nothing():
    """Around 0, but as well around a gap that would be half of the accuracy."""
    assert steps({10: (0.6, 0.0, 0.15), 20: (0.6, 0.0, 0.15)}, RISING) == []


def test_a_policy_that_is_never_right_is_not_blind():
    assert steps({10: (0.0, 0.0, 0.0), 20: (0.0, 0.0, 0.0)}, RISING) == []


def test_a_small_gap_that_is_surely_not_0_is_told():
    """An interval that had to include 0 would keep silent on a large probe."""
    assert steps({10: (0.9, 0.05, 0.01), 20: (0.9, 0.05, 0.01)}, RISING) == [20]


@pytest.mark.parametrize(("prompts", "told"), [(64, [20]), (8, [])])
def test_equal_prompts_are_no_proof_that_there_are_no_others(prompts, told):
    """No gap in any of P prompts: 1 - 0.025^(1/P) of all might still have one."""
    certain = (1.0, 0.0, 0.0)
    assert steps({10: certain, 20: certain}, RISING, prompts=prompts) == told
    assert (1 - 0.025 ** (1 / prompts) < SHARE) == bool(told)


def test_a_rise_needs_ten_steps_and_is_larger_than_chance():
    assert risen([0.0] * 4 + [1.0] * 5) is None
    assert risen([0.0] * 5 + [1.0] * 5) == (0.0, 1.0)
    assert risen([0.0] * 50 + [0.1] * 10) == (0.0, 0.1), "ten steps at either end"
    assert risen([0.4, 0.6] * 10) is None
    noisy = [0.1, 0.9] * 5
    assert risen([*noisy, *(y + 0.05 for y in noisy)]) is None


def test_measurements_that_scored_nothing_and_steps_without_one_are_passed_over():
    found = lines({10: BLIND, 20: BLIND, 30: BLIND}, RISING)
    found[20] = {"step": 20, "reward/accuracy": None, "look/prompts": 64.0, "look/gain_blank": 1.0}
    assert [warning.step for warning in blind_warnings(found)] == [30]


def test_a_reward_without_accuracy_is_taken_as_it_is():
    found = lines({10: BLIND, 20: BLIND}, RISING)
    for row in found:
        if "reward/accuracy" in row:
            row["reward/overall"] = row.pop("reward/accuracy")
    (warning,) = blind_warnings(found)
    assert warning.step == 20
    assert "its score in training rose from 0.295 to 0.495" in warning.text
    assert "%" not in warning.text.replace("95%", "")
    (chart,) = look_charts(found)
    assert (chart.title, chart.unit) == ("Score that needs the picture", "")
    assert "Right answers" not in chart.note


def test_the_page_of_a_reward_without_accuracy_speaks_of_its_score(run):
    rows = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    for row in rows:
        row.pop("reward/accuracy", None)
        row |= {"look/accuracy": 4.0, "look/accuracy_gap": 1.5, "look/accuracy_gap_se": 0.5}
        row |= {"val/accuracy": 7.25} if "val/accuracy" in row else {}
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    html = write_report(run.folder).read_text(encoding="utf-8")
    assert "Validation score</dt><dd>7.25 → 7.25" in html
    assert "accuracy" not in html.lower().split("<h2>curves", 1)[1].split("</section>")[0]
    assert "725.0%" not in html


def test_the_page_says_it_and_draws_the_gap_with_its_interval(run):
    looks = {0: LOOKS, 4: LOOKS, 8: BLIND, 10: BLIND}
    rewards = [0.2 + 0.05 * step for step in range(10)]
    before = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    rows = [old | new for old, new in zip(before, lines(looks, rewards))]
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (warning,) = blind_warnings(run.read_metrics())
    assert warning.step == 10
    html = write_report(run.folder).read_text(encoding="utf-8")
    assert "From step 10 on: the policy learns to answer without the picture" in html
    assert html.count("Accuracy that needs the picture") == 2  # the title, and the drawing's label
    (chart,) = look_charts(rows)
    assert [series.name for series in chart.series] == ["gap", "right picture", "another's picture"][:2]
    gap = chart.series[0]
    assert gap.points == [(step, look[1]) for step, look in looks.items()]
    for (_, low, high), (_, middle, error) in zip(gap.band, looks.values()):
        half = max(1.96 * error, 1 - 0.025 ** (1 / 64))
        assert (low, high) == pytest.approx((middle - half, middle + half))


def test_a_run_that_did_not_measure_it_has_no_chart_and_no_word_of_it(run):
    assert look_charts(run.read_metrics()) == []
    assert "without the picture" not in write_report(run.folder).read_text(encoding="utf-8")


@pytest.mark.parametrize("prompts", [2, 8, 64])
def test_a_prompt_that_needs_its_picture_never_makes_a_small_gap_surer(prompts):
    one = {
        "look/accuracy_gap_se": 0.5 / prompts,
        "look/prompts": float(prompts),
    }  # one gap of 0.5, the others 0
    none = {**one, "look/accuracy_gap_se": 0.0}
    assert 0.5 / prompts + half_width(one) >= half_width(none) > 0


def test_scores_that_are_no_shares_are_not_judged():
    blind = {10: (10.0, 0.0, 0.1), 20: (10.0, 0.0, 0.1)}
    assert steps({step: (1.0, 0.0, 0.01) for step in blind}, RISING) == [20]
    assert steps(blind, RISING) == []


@pytest.mark.parametrize(("mean", "most"), [(0.0, 1.0), (0.01, 1.0), (0.6, 1.0), (1.0, 1.0), (60.0, 60.0)])
def test_means_near_0_do_not_make_the_least_interval_smaller_and_large_scores_widen_it(mean, most):
    means = {"look/accuracy": mean, "look/accuracy_swapped": mean / 2}
    row = {**means, "look/prompts": 8.0, "look/accuracy_gap_se": 0.0}
    assert half_width(row) == pytest.approx(most * (1 - 0.025 ** (1 / 8)))


def test_a_score_near_0_is_not_called_blind_because_all_questions_have_the_same_gap():
    """64 of them say little of the others, and a mean of 0.02 does not say how much one can score."""
    looks = {10: (0.02, 0.0, 0.0), 20: (0.02, 0.0, 0.0)}
    rows = lines(looks, RISING)
    of_a_score = [{key.replace("reward/accuracy", "reward/overall"): row[key] for key in row} for row in rows]
    assert blind_warnings(of_a_score) == []


def test_a_step_s_line_has_the_interval_beside_the_gap(capsys):
    shown = ("reward/overall", "response_length/mean", "rollout/truncated", "group/zero_variance")
    look = {
        "look/accuracy": 0.006,
        "look/accuracy_gap": 0.0,
        "look/accuracy_gap_se": 0.0,
        "look/prompts": 4.0,
    }
    step = dict.fromkeys((*shown, "actor/grad_norm", "time/step"), 1.0)
    Console(4).metrics(2, {**step, **look})
    assert "look gap 0.000 ± 0.602" in capsys.readouterr().out
