"""A prompt and a reward agree on where the answer stands, or it is said; what may be right is not refused."""

import pytest

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.data.templates import load_template, render_problem
from gmpo_vl.rewards.agreement import ROWS, disagreement, rows_to_try, worth_as_asked
from gmpo_vl.rewards.loading import built_in_rewards, load_reward
from gmpo_vl.types import Example

IN_TAGS = {"r1v", "countdown"}
GOLDS = {
    "countdown": encode_answer(10, type="countdown", choices=["3", "7"]),
    "iou": "[10, 20, 30, 40]",
    "choice": encode_answer("B", type="choice", choices=["a cat", "a dog"]),
}
# Text of a custom template in place of a shipped one.
CUSTOM = {
    "{{ content }} Write <ANSWER>, no: write <answer>your answer</answer>.": "tag",
    "Put what you found into $\\boxed{...}$! {{ content }}": "box",
}


def asked(template, *golds, problem="What is x?"):
    rows = [Example(f"row {i}", problem, gold) for i, gold in enumerate(golds)]
    return [(render_problem(row.problem, template), row) for row in rows]


def said(found, certain=True) -> bool:
    return found is not None and found.certain == certain


def reward_of(tmp_path, body, more=""):
    path = tmp_path / "reward.py"
    path.write_text(f"import re\n{more}\ndef compute_score(reward_inputs):\n    {body}\n")
    return load_reward(f"{path}:compute_score")


@pytest.mark.parametrize("name", built_in_rewards())
def test_every_reward_goes_with_the_prompts_that_ask_for_its_place(name):
    places = {load_template("math"): "box", load_template("boxed"): "box", load_template("r1v"): "tag"}
    for kwargs in ({}, {"answer_in": "tag"}):
        try:
            reward = load_reward(name, kwargs)
        except ValueError:  # it has no such option
            continue
        reads = "tag" if kwargs or name in IN_TAGS else "box"
        for template, place in {**places, **CUSTOM}.items():
            found = disagreement(asked(template, *[GOLDS.get(name, "42")] * 3), reward)
            assert said(found) == (place != reads)
            if found is not None:
                for word in ("data.format_prompt", "worker.reward.reward_function", "<answer>", "\\boxed"):
                    assert word in found.said
        found = disagreement(asked(load_template("plain"), GOLDS.get(name, "42")), reward)
        assert said(found, certain=False)
        assert "data.format_prompt" in found.said


def test_what_is_said_to_write_is_right():
    """The option that the sentence names makes the two agree."""
    prompts = asked(load_template("r1v"), "42")
    found = disagreement(prompts, load_reward("numeric"))
    assert "reward_function_kwargs: {answer_in: tag}" in found.change
    assert disagreement(prompts, load_reward("numeric", {"answer_in": "tag"})) is None
    assert disagreement(prompts, load_reward("r1v")) is None


@pytest.mark.parametrize(
    "body",
    [
        "return [{'overall': float('<answer>' in g['response'])} for g in reward_inputs]",  # a form alone
        "return [{'overall': -float(len(g['response']))} for g in reward_inputs]",  # a length alone
        "return [{'overall': 1 / g['response_length']} for g in reward_inputs]",
        "return [{'overall': 0.5} for g in reward_inputs]",
        "return [{'overall': float(g['ground_truth'] in g['response'])} for g in reward_inputs]",  # anywhere
        "return [{'overall': float(hash(g['response']) % 3 == 0)} for g in reward_inputs]",
        # a place of its own
        "return [{'overall': float('Final: ' + g['ground_truth'] in g['response'])} for g in reward_inputs]",
        # the box, once there were thoughts
        "return [{'overall': float('<think>' in g['response'] and '{' + g['ground_truth'] in g['response'])} "
        "for g in reward_inputs]",
    ],
)  # fmt: skip
def test_a_reward_that_may_be_right_is_not_refused(tmp_path, body):
    reward = reward_of(tmp_path, body)
    for name in ("boxed", "math", "plain"):
        found = disagreement(asked(load_template(name), *map(str, range(5, 13))), reward)
        assert found is None or not found.certain


def test_a_reward_in_a_user_s_file_is_tried(tmp_path):
    """One that pays a length beside the answer, too: both answers have the same length."""
    body = (
        "return [{'overall': ('<answer>' + g['ground_truth'] + '</answer>' in g['response'])"
        " - len(g['response']) / 1000} for g in reward_inputs]"
    )
    reward = reward_of(tmp_path, body)
    found = disagreement(asked(load_template("math"), "5", "a long answer", "-0.25"), reward)
    assert said(found)
    assert disagreement(asked(load_template("r1v"), "5", "a long answer"), reward) is None


def test_a_problem_that_asks_counts_and_rows_that_ask_differently_are_let_through():
    reward = load_reward("accuracy")
    assert disagreement(asked(None, "4", problem="Answer in \\boxed{}: 2 + 2?"), reward) is None
    found = disagreement(asked(None, "4", problem="Answer in <answer> tags: 2 + 2?"), reward)
    assert said(found)
    both = asked(load_template("r1v"), "4", problem="Put the number in \\boxed{}. 2 + 2?")
    assert disagreement(both, reward) is None
    assert (
        disagreement([*asked(load_template("r1v"), "4"), *asked(load_template("math"), "4")], reward) is None
    )


def test_golds_that_cannot_be_written_say_nothing():
    prompts = asked(
        load_template("math"), encode_answer(5, type="countdown", choices=["1", "1"]), '{"gold": ""}'
    )
    assert disagreement(prompts, load_reward("countdown")) is None
    assert worth_as_asked("\\boxed", [prompts[1][1]], load_reward("accuracy")) == []
    assert disagreement([], load_reward("accuracy")) is None


def test_an_endpoint_is_not_asked(tmp_path):
    reward = reward_of(tmp_path, "raise ConnectionError('asked')", "ASKS_ENDPOINT = True")
    assert disagreement(asked(load_template("math"), "4"), reward) is None


def test_what_a_reward_raises_is_said(tmp_path):
    reward = reward_of(tmp_path, "return [{}['no such key'] for g in reward_inputs]")
    with pytest.raises(ValueError, match=r"^reward .*reward.py.*KeyError"):
        disagreement(asked(load_template("math"), "4"), reward)


def test_a_reward_that_asks_for_the_row_gets_it(tmp_path):
    body = (
        "return [{'overall': float(g['meta']['k'] == 1 and '{4}' in g['response'])} for g in reward_inputs]"
    )
    reward = reward_of(tmp_path, body, "REWARD_INPUTS = ['meta']")
    row = Example("row", "2 + 2?", "4", meta={"k": 1})
    assert worth_as_asked("\\boxed{}", [row], reward) == [(1.0, 0.0)]


@pytest.mark.parametrize("count", [0, 1, 3, 8, 9, 10_000])
def test_rows_are_spread_over_the_data(count):
    rows = rows_to_try(count)
    assert len(set(rows)) == min(count, ROWS)
    assert rows == [] or (rows[0] == 0 and count * 0.8 - 1 <= rows[-1] < count)


def test_a_response_without_a_score_ends_no_check(tmp_path):
    body = "return [{'overall': None if r['ground_truth'] == '3' else 0.0} for r in reward_inputs]"
    reward = reward_of(tmp_path, body)
    rows = asked(load_template("boxed"), "3", "4")
    assert disagreement(rows, reward) is None
    assert worth_as_asked(rows[0][0], [example for _, example in rows], reward) == [(0.0, 0.0)]
