"""What a run refuses of its environment, each in a sentence that says why and what to do."""

import pytest
from refusal import refusal

from gmpo_vl.config import load_config

PLAYS = ("environment.name=gridworld", "worker.reward.reward_function=null")


@pytest.mark.parametrize(
    "key",
    [
        "environment.max_turns=3",
        "environment.history_length=0",
        "environment.template=turn",
        "environment.isolate=true",
        "environment.settings={view: 2}",
        "algorithm.episode_weight=episode",
        "algorithm.episode_baseline=episodes",
        "algorithm.turn_penalty=after",
    ],
)
def test_keys_of_games_need_a_name(write, key):
    said = refusal(write(), key)
    assert key.partition("=")[0] in said
    assert "only games have it; name what is played in environment.name, or remove it" in said
    load_config(write(), [*PLAYS, key])


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("worker.reward.reward_function=geometry3k", "the environment scores its own games; write null"),
        ("worker.reward.reward_function_kwargs={a: 1}", "the environment scores its own games; write {}"),
        ("data.format_prompt=math", "environment.template says what a turn shows"),
        ("trainer.look_freq=5", "a game cannot be asked again at one turn; write -1"),
        ("algorithm.papo.kl_prcp_coef=0.01", "the pictures of games come from their turns; write 0.0"),
        ("trainer.kl_to_start_freq=5", "it asks rows as single questions"),
        ("algorithm.reward_weights={accuracy: 1.0}", "a game has one reward, the sum of its steps'; write"),
        ("algorithm.adv_estimator=gdpo", "it normalises the parts of a reward apart; write grpo"),
        ("algorithm.overlong_responses=soft", "a game's score belongs to all its turns; write score"),
        ("worker.actor.loss_type=easyr1/gspo", "EasyR1's own losses know one answer a prompt"),
    ],
)
def test_what_has_no_meaning_with_games_is_refused(write, override, why):
    engine = ["engine=easyr1"] if "easyr1" in override else []
    said = refusal(write(), *PLAYS, *engine, override)
    first, _, rest = why.partition("; ")
    assert override.partition("=")[0] in said
    assert first.removesuffix(" write") in said
    assert rest in said
    assert "or train without environment.name" in said


@pytest.mark.parametrize(
    "override",
    [
        "algorithm.adv_estimator=gdpo",  # else: name weights, which games refuse, too
        "algorithm.reward_weights={}",
        "algorithm.overlong_responses=soft",
        "worker.reward.reward_function=nowhere.py:score",
        "data.format_prompt=nowhere.jinja",
        "worker.actor.loss_type=easyr1/gspo",
        "trainer.look_freq=0",
    ],
)
def test_what_games_refuse_is_one_message(write, override):
    said = refusal(write(), *PLAYS, override)
    assert "or train without environment.name" in said
    assert "\n" not in said


def test_what_is_written_takes_away_what_games_refuse(write):
    lower, key = write("lower.yaml"), "worker.reward.reward_function_kwargs"
    (lower.parent / "upper.yaml").write_text(
        "base: lower.yaml\nworker: {reward: {reward_function_kwargs: {a: 1}}}"
    )
    upper = lower.parent / "upper.yaml"
    assert f'{key} is {{"a": 1}}' in (said := refusal(upper, *PLAYS))
    assert "write {}" in said
    assert load_config(upper, [*PLAYS, f"{key}={{}}"]).environment.name == "gridworld"


def test_games_are_filtered_by_a_part_that_their_scores_have(write):
    filtering = "algorithm.online_filtering=true"
    said = refusal(write(), *PLAYS, filtering, "algorithm.filter_key=format")
    assert "algorithm.filter_key" in said
    assert "a game's score has the parts overall and accuracy alone; write accuracy, or train without" in said
    for part in ("overall", "accuracy"):
        load_config(write(), [*PLAYS, filtering, f"algorithm.filter_key={part}"])
    load_config(write(), [*PLAYS, "algorithm.filter_key=format"])  # nothing is filtered


def test_files_that_are_named_must_be_there(write, tmp_path):
    said = refusal(
        write(), *PLAYS, f"environment.name={tmp_path}/none.py:Game", "environment.template=no.jinja"
    )
    assert f"there is no file {tmp_path}/none.py" in said
    assert 'environment.template is "no.jinja"' in said


def test_a_run_that_plays_needs_no_reward(write):
    config = load_config(write(), PLAYS)
    assert config.environment.max_turns == 50
    assert "worker.reward.reward_function is missing" in refusal(write(), PLAYS[1])
