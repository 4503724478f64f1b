"""What verl is given by a reward of ours: the same parts for every response, and failures that are counted.

tests/plugins/in_verl calls it through verl's own managers.
"""

import logging
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.plugins import _verl_reward
from gmpo_vl.plugins._verl_reward import compute_score

RIGHT = "<think>a</think> \\boxed{9.2}"


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """As in a new process."""
    monkeypatch.setattr(_verl_reward, "_scorers", {})


@pytest.fixture
def own(tmp_path):
    def write(body: str, head: str = "", name: str = "mine.py") -> str:
        path = tmp_path / name
        path.write_text(f"REWARD_TYPE = 'sequential'\n{head}\n\ndef mine(given):\n    {body}\n")
        return f"{path}:mine"

    return write


def test_a_reward_by_name_with_its_options():
    assert compute_score("x", RIGHT, "9.2", {}, reward="geometry3k") == {
        "score": 1.0,
        "acc": 1.0,
        "format": 1.0,
        "reward_failed": 0.0,
    }
    half = compute_score("x", "\\boxed{9.2}", "9.2", reward="geometry3k", format_weight=0.5)
    assert half == {"score": 0.5, "acc": 1.0, "format": 0.0, "reward_failed": 0.0}


@pytest.mark.parametrize("gold", [12, ["11", "12"], "12", "['11', '12']", '["11", "12"]'])
def test_golds_as_parquet_has_them(gold):
    assert compute_score("x", "\\boxed{12}", gold, reward="accuracy")["acc"] == 1.0


def pays(answer: str, gold, reward: str = "accuracy") -> bool:
    return compute_score("x", f"\\boxed{{{answer}}}", gold, reward=reward)["acc"] == 1.0


def test_the_page_s_kinds_of_golds():
    """docs/verl.md has a table of them."""
    assert pays("mug", "['cup', 'mug']")
    assert not pays("spoon", "['cup', 'mug']")
    together = '{"gold": ["2", "3"], "type": "list"}'
    assert pays("3, 2", together)
    assert not pays("2", together)
    option = encode_answer("B", choices=["a cat", "a dog"])
    assert [pays(answer, option) for answer in ("B", "a dog", "A")] == [True, True, False]
    assert [pays(answer, encode_answer(0.5, tolerance=0.01)) for answer in ("0.503", "0.52")] == [True, False]
    countdown = encode_answer(24, type="countdown", choices=["8", "3", "8", "3"])
    said = "<think>a</think><answer>8 / (3 - 8 / 3)</answer>"
    assert compute_score("x", said, countdown, reward="countdown")["acc"] == 1.0


def test_what_is_written_wrong_is_said():
    with pytest.raises(ValueError, match=r"reward_kwargs\.reward=NAME with one of accuracy, "):
        compute_score("x", RIGHT, "9.2")
    with pytest.raises(
        ValueError, match="reward_kwargs: no reward is called 'geometri3k'; did you mean geometry3k"
    ):
        compute_score("x", RIGHT, "9.2", reward="geometri3k")
    with pytest.raises(ValueError, match="did you mean format_weight"):
        compute_score("x", RIGHT, "9.2", reward="geometry3k", format_wieght=0.2)


def test_a_reward_that_asks_an_endpoint_is_refused(own):
    asks = own("return {'overall': 1.0}", "ASKS_ENDPOINT = True")
    with pytest.raises(ValueError, match=r"asks an endpoint.* reward\.reward_model"):
        compute_score("x", RIGHT, "9.2", reward=asks)


def test_an_answer_on_which_the_reward_fails_scores_0_and_is_counted(own, caplog):
    reward = own("return {'overall': 1 / given['response'].count('a'), 'accuracy': 1.0, 'length': 2.0}")
    assert compute_score("x", "aa", "1", reward=reward)["score"] == 0.5
    with caplog.at_level(logging.WARNING):
        failed = compute_score("x", "b", "1", reward=reward)
    assert failed == {"score": 0.0, "acc": 0.0, "length": 0.0, "reward_failed": 1.0}
    assert "ZeroDivisionError" in caplog.text
    assert "mine.py, line 5" in caplog.text
    for _ in range(40):
        compute_score("x", "b", "1", reward=reward)
    assert len(caplog.records) == 12
    assert "(failure 32 of this process)" in caplog.records[-1].message


def test_failing_on_the_very_first_answer_is_counted_too(own):
    reward = own("return {'overall': 1.0 / (given['response'] != 'b')}")
    assert compute_score("x", "b", "1", reward=reward) == {"score": 0.0, "reward_failed": 1.0}


def test_a_reward_that_can_score_nothing_raises(own):
    broken = own("return {'overall': givn['response']}")
    for _ in range(2):
        with pytest.raises(ValueError, match="NameError"):
            compute_score("x", "b", "1", reward=broken)


def test_a_key_that_verl_does_not_hand_over_is_said(own):
    with pytest.raises(ValueError, match="response_length: verl hands a reward only response, ground_truth"):
        compute_score("x", "b", "1", reward=own("return {'overall': given['response_length']}"))


@pytest.mark.parametrize("order", ["ba", "ab"])
def test_parts_of_some_responses_alone_leave_the_score(own, caplog, order):
    """Whichever response a worker sees first: all workers have the same parts."""
    reward = own(
        "return {'overall': 0.5, 'accuracy': 1.0, **({'bonus': 1.0} if given['response'] == 'b' else {})}"
    )
    for response in order * 2:
        found = compute_score("x", response, "1", reward=reward)
        assert found == {"score": 0.5, "acc": 1.0, "reward_failed": 0.0}
    assert len(caplog.records) == 1
    assert "the parts ['bonus'] are not in the score of an empty response" in caplog.text


def test_parts_that_a_response_has_not_are_0(own):
    reward = own("return {'overall': 0.5, **({} if given['response'] == 'b' else {'short': 1.0})}")
    assert compute_score("x", "b", "1", reward=reward) == {"score": 0.5, "short": 0.0, "reward_failed": 0.0}
    assert compute_score("x", "a", "1", reward=reward) == {"score": 0.5, "short": 1.0, "reward_failed": 0.0}


@pytest.mark.parametrize("gold", [None, True, ["5", None], {"target": 24, "numbers": [8, 3]}, float("nan")])
def test_golds_that_cannot_be_read_pay_nothing_and_say_why(gold, caplog):
    """Those that `gmpo-vl grade --self-check` refuses."""
    said = f"the gold is {gold!r}; it is a text, a number or a list of alternatives"
    with pytest.raises(ValueError, match=re.escape(said)):
        compute_score("x", RIGHT, gold, reward="geometry3k")  # nothing was scored yet
    compute_score("x", RIGHT, "9.2", reward="geometry3k")
    for response in ("None", "target", "True", "5"):
        found = compute_score("x", f"\\boxed{{{response}}}", gold, reward="geometry3k")
        assert found == {"score": 0.0, "acc": 0.0, "format": 0.0, "reward_failed": 1.0}
    assert said in caplog.text


def test_parts_with_verl_s_names_are_refused(own):
    with pytest.raises(ValueError, match=r"its parts \['acc'\] have names that verl's have"):
        compute_score("x", "a", "1", reward=own("return {'overall': 1.0, 'acc': 1.0}"))


def test_what_the_reward_asks_for_comes_from_extra_info(own):
    asks = own(
        "return {'overall': float(given['meta']['level'] + len(given['problem']))}",
        "REWARD_INPUTS = ('meta', 'problem')",
    )
    row = {"level": 3, "problem": "2+2"}
    assert compute_score("x", "a", "1", row, reward=asks)["score"] == 6.0
    with pytest.raises(ValueError, match="asks for problem of the row: put it into the row's extra_info"):
        compute_score("x", "a", "1", {"level": 3}, reward=asks)
    with pytest.raises(ValueError, match="asks for pictures"):
        compute_score(
            "x", "a", "1", row, reward=own("return {'overall': 1.0}", "REWARD_INPUTS = ('images',)", "b.py")
        )


def test_a_verifier_that_gave_up_is_counted(own):
    late = (
        "def verdicts(inputs):\n    return [Verdict(False, '1', 'integer', 'timeout', 2.0) for _ in inputs]"
    )
    reward = own("return {'overall': 0.0, 'accuracy': 0.0}", f"from gmpo_vl.types import Verdict\n\n{late}")
    assert compute_score("x", "a", "1", reward=reward)["reward_failed"] == 1.0


def test_many_threads(own):
    """verl calls from an executor's threads."""
    reward = own("return {'overall': 1 / int(given['response'] or 1)}")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: compute_score("x", str(i % 5), "1", reward=reward), range(200)))
    assert [one["reward_failed"] for one in found] == [float(i % 5 == 0) for i in range(200)]
    assert {frozenset(one) for one in found} == {frozenset({"score", "reward_failed"})}


def test_without_verl_the_plugin_says_what_is_missing(tmp_path):
    code = (
        "import importlib.util as u, sys\n"
        "found = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'verl' else found(name, *a)\n"
        "sys.modules['verl'] = None\n"
        "import gmpo_vl.plugins.verl"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "verl is not installed here: pip install verl==0.9.1" in done.stderr
