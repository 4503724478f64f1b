"""What each built-in reward pays for."""

import math

import pytest

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.rewards.anls import similarity
from gmpo_vl.rewards.loading import built_in_rewards, load_reward


def score(name: str, gold: str, response: str, **kwargs) -> dict[str, float]:
    return load_reward(name, kwargs)([{"response": response, "response_length": 5, "ground_truth": gold}])[0]


def test_every_reward_is_there_and_survives_any_text():
    golds = {"iou": "[0, 0, 10, 10]", "countdown": encode_answer("6", type="countdown", choices=["2", "3"])}
    texts = [
        "",
        "\\boxed{",
        "<answer>",
        "\\boxed{9^{9^{9^9}}}",
        "\x00\ud7ff",
        "\\boxed{[1e999, nan, inf, 3]}",
        "<answer>" * 500,
        "\\boxed{" * 500,
    ]
    without_endpoint = {
        "accuracy", "anls", "choice", "countdown", "geometry3k", "iou", "math", "numeric", "r1v", "text"
    }  # fmt: skip
    assert set(built_in_rewards()) == {*without_endpoint, "judge"}
    for name in without_endpoint:
        inputs = [{"response": t, "response_length": 1, "ground_truth": golds.get(name, "B")} for t in texts]
        scores = load_reward(name)(inputs)
        assert len(scores) == len(texts)
        assert all(math.isfinite(value) and "overall" in s for s in scores for value in s.values())


def test_geometry3k_takes_decimal_golds_as_rounded_unless_told_otherwise():
    for answer, right in ((r"2\sqrt{21}", 1), ("9.17", 1), ("9.2", 1), ("9.3", 0), ("9", 0), ("-9.2", 0)):
        assert score("geometry3k", "9.2", rf"\boxed{{{answer}}}")["accuracy"] == right
    assert score("geometry3k", "9", r"\boxed{9.2}")["accuracy"] == 0
    assert score("geometry3k", r"2\sqrt{21}", r"\boxed{9.2}")["accuracy"] == 0
    assert score("geometry3k", "9.2", r"\boxed{2\sqrt{21}}", rounded_golds=False)["accuracy"] == 0
    reward = load_reward("geometry3k")
    verdicts = reward.verdicts([{"response": r"\boxed{9.17}", "response_length": 5, "ground_truth": "9.2"}])
    assert verdicts is not None
    assert verdicts[0].correct, "scores and verdicts follow the same settings"


def test_an_option_that_a_reward_has_not_is_refused_by_the_function_itself():
    from gmpo_vl.rewards import accuracy, choice

    given = [{"response": r"\boxed{B}", "response_length": 1, "ground_truth": "B"}]
    assert choice.compute_score(given, 0.5)[0]["overall"] == 1.0
    for function in (accuracy.compute_score, choice.verdicts):
        with pytest.raises(TypeError, match="tolerance"):
            function(given, tolerance=0.1)


def test_r1v_pays_half_for_the_tag():
    assert score("r1v", "5", "<think>a</think> <answer>5</answer>") == {
        "overall": 1.0,
        "format": 1.0,
        "accuracy": 1.0,
    }
    assert score("r1v", "5", "<answer> 5.0 </answer>")["overall"] == 0.5
    assert score("r1v", "5", "<think>a</think><answer>\\boxed{5}</answer>")["overall"] == 1.0
    assert score("r1v", "5", "\\boxed{5}")["overall"] == 0.0
    assert score("r1v", "5", "<answer>5</answer> no: <answer>6")["accuracy"] == 0.0


def test_accuracy_and_math_pay_for_the_answer_only():
    assert score("accuracy", r"\frac12", r"\boxed{0.5}") == {"overall": 1.0, "accuracy": 1.0}
    assert score("math", "5", r"\boxed{6}") == {"overall": 0.0, "format": 1.0, "accuracy": 0.0}
    assert score("math", "5", "5")["format"] == 0.0
    assert score("math", r"\frac{32\pi}{3}", r"\boxed{\frac{32}{3\pi}}")["accuracy"] == 0.0
    assert score("math", r"\frac{32\pi}{3}", r"\boxed{\frac{32}{3\pi}}", profile="paper")["accuracy"] == 1.0


def test_choice_reads_letters_and_texts():
    gold = encode_answer("B", choices=["a cat", "a dog"])
    assert score("choice", gold, r"\boxed{B}")["overall"] == 1.0
    assert score("choice", gold, r"\boxed{\text{dog}}")["overall"] == 1.0
    assert score("choice", gold, r"\boxed{\text{a cat}}")["overall"] == 0.0
    assert score("choice", "K", "<answer>K</answer>", answer_in="tag")["overall"] == 1.0


def test_numeric_is_relaxed_by_five_percent():
    assert score("numeric", "100", r"\boxed{104.9}")["overall"] == 1.0
    assert score("numeric", "100", r"\boxed{105.1}")["overall"] == 0.0
    assert score("numeric", "100", r"\boxed{-100}")["overall"] == 0.0
    assert score("numeric", "Canada", r"\boxed{canada}")["overall"] == 1.0
    assert score("numeric", encode_answer("100", tolerance=0.2), r"\boxed{118}")["overall"] == 1.0


def test_text_takes_any_reference():
    gold = encode_answer(["New York", "NYC"])
    assert score("text", gold, r"\boxed{the new york}")["overall"] == 1.0
    assert score("text", gold, r"\boxed{nyc.}")["overall"] == 1.0
    assert score("text", gold, r"\boxed{York}")["overall"] == 0.0


@pytest.mark.parametrize(
    ("said", "reference", "value"),
    [
        ("kitten", "sitting", 4 / 7),
        ("kit", "sitting", 0.0),
        ("sitten", "sitting", 1 - 2 / 7),
        ("A  B", "a b", 1.0),
        ("", "a", 0.0),
    ],
)
def test_anls_is_one_minus_the_normalised_distance(said, reference, value):
    assert similarity(said, reference) == pytest.approx(value)


def test_anls_is_1_for_what_is_equal_however_it_is_spelled():
    for gold, said in (("$5", "5"), ("-5", "−5"), ("5", "5")):
        assert score("anls", gold, rf"\boxed{{{said}}}") == {"overall": 1.0, "accuracy": 1.0, "format": 1.0}


def test_anls_takes_the_nearest_reference():
    assert score("anls", encode_answer(["zzz", "colour"]), r"\boxed{color}")["overall"] == pytest.approx(
        1 - 1 / 6
    )


def test_iou_pays_the_overlap():
    assert score("iou", "[0, 0, 10, 10]", r"\boxed{[0, 0, 10, 10]}")["overall"] == 1.0
    half = score("iou", "[0, 0, 10, 10]", r"\boxed{(5, 0), (15, 10)}")
    assert half["iou"] == pytest.approx(1 / 3)
    assert half["accuracy"] == 0.0
    assert score("iou", "[0, 0, 10, 10]", r"\boxed{[0, 0, 10, 6]}", graded=False)["overall"] == 1.0
    assert score("iou", "[0, 0, 10, 10]", r"\boxed{[10, 10, 0, 0]}") == {
        "overall": 0.0,
        "iou": 0.0,
        "accuracy": 0.0,
        "format": 0.0,
    }
    with pytest.raises(ValueError, match="no box"):
        score("iou", "[0, 0, 10]", r"\boxed{[0, 0, 10, 10]}")


def test_iou_takes_the_nearest_of_several_boxes_and_no_list_of_numbers():
    either = encode_answer(["[0, 0, 10, 10]", "[20, 20, 30, 30]"])
    assert score("iou", either, r"\boxed{[20, 20, 30, 30]}")["overall"] == 1.0
    assert score("iou", either, r"\boxed{[0, 0, 10, 5]}")["overall"] == 0.5
    with pytest.raises(ValueError, match="write a box as one text"):
        score("iou", encode_answer([0, 5, 10, 15]), r"\boxed{[0, 5, 10, 15]}")
    with pytest.raises(ValueError, match="no box"):
        score("iou", encode_answer(["[0, 0, 10, 10]", "all of it"]), r"\boxed{[0, 0, 10, 10]}")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("geometry3k", {"format_weight": "0.5"}, "format_weight is '0.5'; it is a number between 0 and 1"),
        ("r1v", {"format_weight": 7}, "format_weight is 7; it is a number between 0 and 1"),
        ("math", {"format_weight": float("nan")}, "format_weight is nan"),
        ("math", {"format_weight": True}, "format_weight is True"),
        ("math", {"profile": "papr"}, "profile is 'papr'; it is strict or paper"),
        ("choice", {"answer_in": "boxed"}, "answer_in is 'boxed'; it is box or tag"),
        ("numeric", {"tolerance": 5}, "tolerance is 5; it is a number between 0 and 1"),
        ("geometry3k", {"rounded_golds": "false"}, "rounded_golds is 'false'; it is true or false"),
        ("iou", {"threshold": "0.5"}, "threshold is '0.5'"),
        ("iou", {"graded": 1}, "graded is 1; it is true or false"),
        ("anls", {"threshold": 50}, "threshold is 50"),
        ("countdown", {"attempt": None}, "attempt is None; it is a number"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_refused_when_the_reward_is_loaded(name, options, message):
    with pytest.raises(ValueError, match=f"^reward {name}: {message}"):
        load_reward(name, options)


def test_every_option_of_a_reward_without_an_endpoint_has_its_values():
    """A default alone would let a new option go unchecked."""
    for name in set(built_in_rewards()) - {"judge"}:
        for option in load_reward(name).options:
            with pytest.raises(ValueError, match=f"{option} is <object"):
                load_reward(name, {option: object()})


def test_the_profile_paper_is_refused_at_once_where_math_verify_is_missing(monkeypatch):
    from gmpo_vl.verify import workers

    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    workers.check_installed.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="math_verify"):
        load_reward("math", {"profile": "paper"})


def test_countdown_needs_every_number_once_and_runs_nothing():
    gold = encode_answer("45", type="countdown", choices=["30", "71", "88", "2"])
    right = "<answer>(88 - 71) * 2 - 30 + 41</answer>"
    assert score("countdown", gold, right)["overall"] == 0.1
    assert (
        score(
            "countdown",
            encode_answer("6", type="countdown", choices=["2", "3", "1"]),
            "<answer>2 * 3 / 1</answer>",
        )["overall"]
        == 1.0
    )
    gold = encode_answer("24", type="countdown", choices=["8", "3", "8", "3"])
    assert score("countdown", gold, "<answer> 8 / (3 - 8 / 3) </answer>")["overall"] == 1.0, (
        "exactly, where floats miss"
    )
    assert score("countdown", gold, "<answer>8/(3-8/3) = 24</answer>")["overall"] == 1.0
    for wrong in (
        "8*3",
        "8*3+8-8+3-3",
        "8(3)+8-8",
        "8**3",
        "8/(3-3)*8",
        "24",
        "__import__('os')",
        "8//3*8*3",
        "8 3 8 3",
    ):
        assert score("countdown", gold, f"<answer>{wrong}</answer>")["overall"] == 0.1
    assert score("countdown", gold, "8/(3-8/3)")["overall"] == 0.0
