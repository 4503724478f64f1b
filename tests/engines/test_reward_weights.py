"""`algorithm.reward_weights` and the estimators of a whole step in real runs: what is trained on, what is
logged, what is refused and when.
"""

import json

import pytest
import torch

from gmpo_vl.cli import main
from gmpo_vl.config import AlgorithmConfig, ConfigError
from gmpo_vl.engines.advantages import fill_advantages
from gmpo_vl.engines.collect import Collected, group_metrics
from gmpo_vl.engines.local.engine import train
from gmpo_vl.types import Example, Group, Prompt, Response

PARTS = """
def compute_score(reward_inputs):
    scores = []
    for given in reward_inputs:
        letters = sum(map(ord, given["response"]))
        right, even = float(letters % 3 == 0), float(letters % 2)
        scores.append({"overall": right, "accuracy": right, "even": even})
    return scores
"""
GDPO = ["algorithm.adv_estimator=gdpo", "algorithm.reward_weights={accuracy: 1.0, even: 0.5}"]


@pytest.fixture
def two_parts(tmp_path) -> str:
    (tmp_path / "parts.py").write_text(PARTS)
    return f"worker.reward.reward_function={tmp_path / 'parts.py'}:compute_score"


def group_of(*scores: dict[str, float]) -> Group:
    ids = torch.zeros(1, dtype=torch.long)
    prompt = Prompt(Example("a", "?", "gold"), "?", ids, (), torch.zeros(0, 3), torch.zeros(3, 1))
    responses = [Response(ids, torch.zeros(1), "", True, seed=0) for _ in scores]
    return Group("a", prompt, responses, list(scores), [None] * len(scores))


def figures(run) -> list[dict]:
    skip = ("time/", "memory/", "perf/")
    return [{k: v for k, v in line.items() if not k.startswith(skip)} for line in run.read_metrics()]


def test_a_run_by_gdpo_trains_and_logs_what_became_of_each_part(make_config, two_parts):
    run = train(make_config("trainer.max_steps=2", two_parts, *GDPO))
    for line in run.read_metrics()[1:]:
        assert line["advantage/batch_std"] > 0
        assert line["actor/grad_norm"] > 0
        apart = [line["group/zero_variance_accuracy"], line["group/zero_variance_even"]]
        assert line["group/zero_variance"] <= min(apart)
        assert line["reward/weighted_sum"] == pytest.approx(
            line["reward/accuracy"] + 0.5 * line["reward/even"], abs=1e-12
        )


def test_overall_with_weight_1_is_the_run_without_weights_to_the_digit(make_config, two_parts, tmp_path):
    settings = ("trainer.max_steps=2", two_parts)
    plain = train(make_config(*settings, f"trainer.save_checkpoint_path={tmp_path / 'plain'}"))
    weighed = train(make_config(*settings, "algorithm.reward_weights={overall: 1.0, even: 0}"))
    more = {"reward/weighted_sum", "group/zero_variance_overall"}
    for ours, theirs in zip(figures(weighed), figures(plain), strict=True):
        assert {key: value for key, value in ours.items() if key not in more} == theirs


@pytest.mark.parametrize("estimator", ["rloo", "reinforce_plus_plus_baseline"])
def test_the_weighted_sum_is_what_other_estimators_train_on(estimator):
    """Of {accuracy: 2, form: -1} and of an `overall` that says the same."""
    parts = [group_of(*({"overall": 9.0, "accuracy": a, "form": f} for a, f in pairs)) for pairs in PAIRS]
    sums = [group_of(*({"overall": 2 * a - f} for a, f in pairs)) for pairs in PAIRS]
    weights = {"accuracy": 2.0, "form": -1.0}
    fill_advantages(parts, AlgorithmConfig(adv_estimator=estimator, reward_weights=weights))
    fill_advantages(sums, AlgorithmConfig(adv_estimator=estimator))
    for one, other in zip(parts, sums):
        assert torch.equal(one.advantages_G, other.advantages_G)


PAIRS = [[(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)], [(0.0, 0.0), (0.0, 0.0), (0.0, 1.0)]]


def test_groups_that_differ_in_no_weighted_part_have_no_gradient_and_are_counted():
    algorithm = AlgorithmConfig(adv_estimator="gdpo", reward_weights={"accuracy": 1.0, "form": 1.0})
    same = group_of(
        {"overall": 0.0, "accuracy": 1.0, "form": 0.1}, {"overall": 1.0, "accuracy": 1.0, "form": 0.1}
    )
    form = group_of(
        {"overall": 1.0, "accuracy": 1.0, "form": 0.0}, {"overall": 1.0, "accuracy": 1.0, "form": 1.0}
    )
    without = group_of({"overall": 0.0, "unscored": 1.0}, {"overall": 0.0, "accuracy": 1.0, "form": 1.0})
    groups = [same, form, without]
    metrics = group_metrics(Collected(groups, 0, figures=fill_advantages(groups, algorithm)))
    assert same.advantages_G.tolist() == without.advantages_G.tolist() == [0.0, 0.0]
    assert form.advantages_G[1] > 0 > form.advantages_G[0]
    assert metrics["group/zero_variance"] == pytest.approx(2 / 3)
    assert metrics["group/zero_variance_accuracy"] == 1.0
    assert metrics["group/zero_variance_form"] == pytest.approx(2 / 3)
    assert metrics["reward/weighted_sum"] == pytest.approx((1.1 + 1.1 + 1.0 + 2.0 + 2.0) / 5)


def test_a_step_without_any_score_has_no_gradient_and_no_complaint():
    algorithm = AlgorithmConfig(adv_estimator="gdpo", reward_weights={"accuracy": 1.0})
    group = group_of({"overall": 0.0, "unscored": 1.0}, {"overall": 0.0, "unscored": 1.0})
    assert "reward/weighted_sum" not in fill_advantages([group], algorithm)
    assert not group.advantages_G.any()


def test_the_part_of_soft_overlong_punishment_has_a_weight_like_any_other(make_config, two_parts):
    soft = ("algorithm.overlong_responses=soft", "algorithm.overlong_buffer=8", "trainer.max_steps=1")
    weights = "algorithm.reward_weights={accuracy: 1.0, overlong: 2.0}"
    line = train(make_config(two_parts, *soft, weights)).read_metrics()[-1]
    assert line["reward/overlong"] < 0
    expected = line["reward/accuracy"] + 2 * line["reward/overlong"]
    assert line["reward/weighted_sum"] == pytest.approx(expected, abs=1e-12)


def test_a_part_that_no_score_has_ends_the_first_step_with_the_parts_there_are(make_config, two_parts):
    with pytest.raises(
        ConfigError, match=r"part 'evne'; did you mean even\? \(parts: overall, accuracy, even\)"
    ):
        train(make_config(two_parts, "algorithm.reward_weights={accuracy: 1.0, evne: 0.5}"))


FILTERED = "algorithm.online_filtering=true"


@pytest.mark.parametrize(
    "named", [["algorithm.reward_weights={fromat: 1.0}"], [FILTERED, "algorithm.filter_key=fromat"]]
)
def test_an_unknown_part_of_a_built_in_reward_is_refused_before_anything_is_loaded(
    config_file, overrides, make_config, capsys, named
):
    settings = ["worker.reward.reward_function=geometry3k", *named]
    said = r"no score has a part 'fromat'; did you mean format? (parts: overall, format, accuracy)"
    assert main(["train", "--dry-run", str(config_file), *overrides, *settings]) == 2
    assert said in capsys.readouterr().err
    with pytest.raises(ConfigError, match="did you mean format"):
        train(make_config(*settings))


def test_the_dry_run_warns_of_a_part_that_a_file_s_scores_do_not_have(
    config_file, overrides, two_parts, capsys
):
    for part, warned in (("even", False), ("evne", True)):
        weights = f"algorithm.reward_weights={{accuracy: 1.0, {part}: 0.5}}"
        assert main(["train", "--dry-run", str(config_file), *overrides, two_parts, weights]) == 0
        out = capsys.readouterr().out
        assert f"of the reward's parts: accuracy 1, {part} 0.5" in out
        assert ("WARNING: algorithm.reward_weights: no score has a part 'evne'" in out) is warned


def test_the_dry_run_warns_of_filtering_by_a_part_that_a_file_s_scores_do_not_have(
    config_file, overrides, two_parts, capsys
):
    command = ["train", "--dry-run", str(config_file), *overrides, two_parts]
    for key, filtered, warned in (("evne", True, True), ("even", True, False), ("evne", False, False)):
        settings = [f"algorithm.online_filtering={filtered}", f"algorithm.filter_key={key}"]
        assert main([*command, *settings]) == 0
        out = capsys.readouterr().out
        said = "WARNING: algorithm.filter_key: no score has a part 'evne'; did you mean even?"
        assert (said in out) is warned


def test_what_was_weighed_is_in_the_rollouts_of_the_run(make_config, two_parts):
    run = train(make_config("trainer.max_steps=1", two_parts, *GDPO))
    rows = [json.loads(line) for line in run.rollouts_file(1).read_text().splitlines()]
    assert all(set(row["reward"]) == {"overall", "accuracy", "even"} for row in rows)
