"""A reward is loaded by name or path, and a score that would poison an advantage is an error that names its
input.
"""

import math
from pathlib import Path

import pytest

from gmpo_vl.rewards.loading import load_reward
from gmpo_vl.rollout.scoring import counted
from gmpo_vl.types import Example

RIGHT = {"response": r"<think>a</think> \boxed{5}", "response_length": 9, "ground_truth": "5"}
WRONG = {"response": r"<think>a</think> \boxed{6}", "response_length": 9, "ground_truth": "5"}
BARE = {"response": r"\boxed{5.0}", "response_length": 4, "ground_truth": "5"}


def reward_file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "my_reward.py"
    path.write_text(text)
    return f"{path}:score"


def test_geometry3k_pays_nine_tenths_for_the_answer_and_one_for_the_form():
    scores = load_reward("geometry3k")([RIGHT, WRONG, BARE])
    assert [s["overall"] for s in scores] == [1.0, 0.1, 0.9]
    assert [s["accuracy"] for s in scores] == [1.0, 0.0, 1.0]
    assert [s["format"] for s in scores] == [1.0, 1.0, 0.0]
    assert load_reward("geometry3k", {"format_weight": 0.5})([BARE])[0]["overall"] == 0.5


def test_the_same_file_by_path_gives_the_same_scores():
    import gmpo_vl.rewards.geometry3k as module

    by_path = load_reward(f"{module.__file__}:compute_score")
    assert by_path([RIGHT, BARE]) == load_reward("geometry3k")([RIGHT, BARE])


def test_verdicts_explain_the_scores_in_order():
    verdicts = load_reward("geometry3k").verdicts([RIGHT, WRONG])
    assert verdicts is not None
    assert [(v.correct, v.extracted) for v in verdicts] == [(True, "5"), (False, "6")]


def test_sequential_rewards_are_called_once_per_input(tmp_path):
    spec = reward_file(
        tmp_path,
        "REWARD_TYPE = 'sequential'\ndef score(given, bonus=0.0):\n    return {'overall': "
        "len(given['response']) + bonus}\n",
    )
    assert [
        s["overall"] for s in load_reward(spec, {"bonus": 0.5})([{"response": "a"}, {"response": "bb"}])
    ] == [1.5, 2.5]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [{'overall': 1.0}]", "2 inputs gave 1 scores"),
        ("return [{'overall': 1.0}, {'accuracy': 1.0}]", "input 1 .*'overall'"),
        ("return [{'overall': 1.0}, {'overall': float('nan')}]", "input 1 .*finite"),
        ("return [{'overall': float('inf')}, {'overall': 1.0}]", "input 0 .*finite"),
        ("return [{'overall': 1.0}, {'overall': 1.0, 'why': 'x'}]", "input 1 .*why='x'"),
        ("return None", "NoneType"),
        ("import numpy as np; return np.array([1.0, 0.0])", r"got 1.0; .*'overall': 1.0"),
    ],
)
def test_bad_scores_are_refused_by_name(tmp_path, body, message):
    reward = load_reward(reward_file(tmp_path, f"def score(inputs):\n    {body}\n"))
    with pytest.raises(ValueError, match=message) as error:
        reward([RIGHT, WRONG])
    assert "my_reward.py:score" in str(error.value)


def test_an_error_inside_a_reward_names_its_file_and_line(tmp_path):
    text = (
        "def half(given):\n    return len(given['responce']) / 2\n\ndef score(inputs):\n    return [half(g) "
        "for g in inputs]\n"
    )
    reward = load_reward(reward_file(tmp_path, text))
    with pytest.raises(ValueError, match=r"my_reward.py, line 2 raised KeyError: 'responce'") as error:
        reward([RIGHT])
    assert str(error.value).startswith(f"reward {tmp_path}")


def test_a_reward_that_exits_ends_nothing_without_a_word(tmp_path):
    exits = "import sys\ndef score(inputs):\n    return [{'overall': 1.0} for _ in inputs]\n"
    scored = exits.replace("return [", "sys.exit(2) or [")
    with pytest.raises(ValueError, match=r"my_reward.py, line 3 raised SystemExit: 2"):
        load_reward(reward_file(tmp_path, scored))([RIGHT])
    explained = f"{exits}def verdicts(inputs):\n    sys.exit()\n"
    with pytest.raises(ValueError, match=r"my_reward.py, line 5 raised SystemExit$"):
        load_reward(reward_file(tmp_path, explained)).verdicts([RIGHT])
    for part, said in (
        ("sys.exit()", "the file cannot be loaded: .*line 4 raised SystemExit$"),
        ("def REWARD_CHECK(): sys.exit('no')", r"it called sys.exit\('no'\)"),
        ("def REWARD_INPUTS(): sys.exit(1)", r"it called sys.exit\(1\)"),
    ):
        with pytest.raises(ValueError, match=said):
            load_reward(reward_file(tmp_path, exits + part))


def test_scores_may_be_numpy_numbers_in_an_array(tmp_path):
    text = (
        "import numpy as np\ndef score(inputs):\n    return np.array([{'overall': np.float32(0.5)} for _ in "
        "inputs])\n"
    )
    assert load_reward(reward_file(tmp_path, text))([RIGHT, WRONG]) == [{"overall": 0.5}] * 2


def test_what_cannot_be_loaded_is_named(tmp_path):
    own = reward_file(
        tmp_path,
        "from gmpo_vl.verify import verify\ndef score(inputs):\n    return []\ndef _help():\n    pass\n",
    )
    for spec, options, message in (
        ("geometry4k", {}, r"no reward is called 'geometry4k'; did you mean geometry3k\?"),
        ("qqq", {}, "'qqq'; known: accuracy, anls, .* one of your own is FILE.py:FUNCTION"),
        (str(tmp_path / "missing.py") + ":score", {}, "no file"),
        (
            own.replace(":score", ":scores"),
            {},
            r"my_reward.py has no function 'scores'; did you mean score\?",
        ),
        (own.replace(":score", ":other"), {}, "no function 'other'; known: score$"),
        (own.replace(":score", ""), {}, "name a function of .*my_reward.py, as FILE.py:NAME; known: score$"),
        ("geometry3k", {"format_wait": 0.2}, r"not \['format_wait'\]; did you mean format_weight\?"),
    ):
        with pytest.raises(ValueError, match=message):
            load_reward(spec, options)


def test_scores_are_finite_and_one_per_input_for_any_text():
    responses = [
        "",
        "\x00",
        r"\boxed{",
        r"\boxed{9^{9^{9^9}}}",
        "<think>" * 1000,
        "\\boxed{" * 500,
        r"\boxed{\frac{1}{0}}",
    ]
    scores = load_reward("geometry3k")(
        [{"response": r, "response_length": 1, "ground_truth": r"5\sqrt{3}"} for r in responses]
    )
    assert len(scores) == len(responses)
    assert all(math.isfinite(v) for s in scores for v in s.values())


UNSURE = """
def score(inputs):
    return [of(given["response"]) for given in inputs]

def of(text):
    return {"overall": float(text), "form": 1.0} if text else {"overall": None}
"""


def test_a_response_that_was_not_scored_is_marked_and_counts_nowhere(tmp_path):
    reward = load_reward(reward_file(tmp_path, UNSURE))
    found = reward.scored([(Example("a", "?", "gold"), [(text, 1) for text in ("1", "", "0")])])
    assert [score["unscored"] for score, _ in found] == [0, 1, 0]
    assert [counted(score) for score, _ in found][:2] == [
        {"unscored": 0.0, "overall": 1.0, "form": 1.0},
        {"unscored": 1.0},
    ]
    with pytest.raises(ValueError, match=r"input 1 .*could not score it"):
        reward([{"response": "1"}, {"response": ""}])
