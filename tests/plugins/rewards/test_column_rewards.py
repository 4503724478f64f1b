"""Rewards as TRL and ms-swift call them: what comes in, what goes out, what is refused."""

import asyncio
import inspect
import pickle

import pytest
from PIL import Image

from gmpo_vl.plugins.column_rewards import gold_text, reward, text_of

RIGHT, WRONG = r"<think>2 + 3</think> \boxed{5}", r"\boxed{6}"
OWN = """
REWARD_TYPE = "sequential"
REWARD_INPUTS = ("id", "problem", "images", "meta")


def score(given, bonus=0.0):
    if given["meta"]["skip"]:
        return {"overall": None}
    width = sum(image.width for image in given["images"])
    told = f"{given['id']} {given['problem']} {given['ground_truth']} {given['response']}"
    return {"overall": width + bonus, "length": given["response_length"], "told": len(told)}


def needs_length(given):
    return {"overall": given["response_length"]}
"""


@pytest.fixture
def own(tmp_path) -> str:
    (tmp_path / "my_reward.py").write_text(OWN)
    return str(tmp_path / "my_reward.py")


def said(content) -> list[dict]:
    return [{"role": "assistant", "content": content}]


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("plain", "plain"),
        ([], ""),
        (said("words"), "words"),
        (said([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]), "ab"),
        (said(None), ""),
        ([*said("called"), {"role": "tool", "content": r"\boxed{5}"}], ""),
        ([{"role": "assistant", "content": "5", "reasoning_content": "2 + 3"}], "<think>2 + 3</think>5"),
    ],
)
def test_what_the_model_said(completion, text):
    assert text_of(completion) == text


def test_a_batch_of_every_form_and_rows_without_an_answer():
    completions = [RIGHT, said(WRONG), said([{"type": "text", "text": RIGHT}]), RIGHT, RIGHT, RIGHT]
    answers = ["5", 5, ["4", None, "5"], None, [float("nan")], ["", " "]]
    scores = reward()(completions, solution=answers, prompts=[""] * 6, trainer_state=object())
    assert scores == [1.0, 0.0, 1.0, None, None, None]
    assert reward(part="format")(completions, solution=answers) == [1.0, 0.0, 1.0, None, None, None]
    assert reward()([RIGHT], solution=[None]) == [None]


OF_NO_KIND = [True, {"a": 1}, b"5", ("5",)]


@pytest.mark.parametrize("gold", [*OF_NO_KIND, *(["5", one] for one in OF_NO_KIND), [["5"]]])
def test_an_answer_of_another_type_is_refused(gold):
    with pytest.raises(ValueError, match="write a text, a number or a list"):
        gold_text(gold)


def test_an_empty_item_of_a_list_is_no_right_answer():
    assert gold_text(["5", None, float("nan"), ""]) == "5"
    assert gold_text([None]) is gold_text(float("nan")) is gold_text("") is gold_text([]) is None
    assert reward("text")([r"\boxed{None}", r"\boxed{nan}"], solution=[["x", None, float("nan")]] * 2) == [
        0,
        0,
    ]


def test_numpys_numbers_and_arrays_are_pythons():
    numpy = pytest.importorskip("numpy")
    for gold in (numpy.int64(5), numpy.float64(5), numpy.str_("5"), numpy.array(5), numpy.array([5.0])):
        assert gold_text(gold) == "5"
    assert gold_text([numpy.int64(4), numpy.float32(0.5)]) == gold_text(numpy.array([4, 0.5]))
    assert gold_text(numpy.array([])) is gold_text(numpy.float64("nan")) is None
    with pytest.raises(ValueError, match="is a bool"):
        gold_text(numpy.bool_(True))


def test_a_missing_column_is_named_with_those_that_there_are():
    with pytest.raises(
        ValueError, match=r"'solution', and the data have \['answer', 'level'\].*answers=COLUMN"
    ):
        reward()([RIGHT], answer=["5"], level=[3], prompts=["?"], log_extra=print)
    assert reward(answers="answer")([RIGHT], answer=["5"]) == [1.0]


def test_what_cannot_be_is_refused_when_the_reward_is_made(own):
    with pytest.raises(ValueError, match="no reward is called 'geometry'"):
        reward("geometry")
    with pytest.raises(ValueError, match="did you mean format_weight"):
        reward("geometry3k", format_wait=0.2)
    with pytest.raises(ValueError, match="did you mean answers= of the plugin"):
        reward("geometry3k", answer="gold")
    with pytest.raises(ValueError, match=r"format_weight is '0.5'; it is a number between 0 and 1$"):
        reward("geometry3k", format_weight="0.5")
    with pytest.raises(ValueError, match=r"a reward is named by a text.*not None"):
        reward(None)
    for options in ({"part": None}, {"answers": ["a"]}, {"name": ""}):
        with pytest.raises(ValueError, match="it is a text"):
            reward("geometry3k", **options)
    with pytest.raises(ValueError, match="no part 'acc'; it has overall, format, accuracy"):
        reward("geometry3k", part="acc")
    with pytest.raises(ValueError, match="no function 'scores'"):
        reward(f"{own}:scores")
    assert reward("geometry3k", format_weight=0.5)([WRONG.replace("6", "5")], solution=["5"]) == [0.5]


def test_a_reward_of_ones_own_gets_what_it_asks_for_of_the_row(own):
    mine = reward(f"{own}:score", answers="gold", bonus=0.5)
    pictures = [Image.new("RGB", (40, 30)), Image.new("L", (8, 8))]
    row = {"id": [7, 8], "problem": ["?", "?"], "skip": [0, 1], "gold": ["5", "5"]}
    given = {**row, "completion_ids": [[1, 2, 3], [4]]}
    assert mine(["x", "y"], **given, image=[pictures[0], None]) == [40.5, None]
    assert mine(["x", "y"], **given, images=[pictures, []]) == [48.5, None]
    assert reward(f"{own}:score", part="length", answers="gold")(["x", "y"], **given, image=pictures) == [
        3,
        None,
    ]
    with pytest.raises(ValueError, match=r"each row's images should be in the column 'images' or 'image'"):
        mine(["x", "y"], **given)
    with pytest.raises(ValueError, match="no part 'lenght'; it has overall, length, told"):
        reward(f"{own}:score", part="lenght", answers="gold")(["x", "y"], **given, image=pictures)
    with pytest.raises(ValueError, match="response_length"):
        reward(f"{own}:needs_length")(
            ["x"], solution=["5"], **{key: [row[key][0]] for key in row}, images=[[]]
        )


def test_the_other_parts_are_logged_as_means():
    logged = {}
    assert reward()([RIGHT, WRONG, RIGHT], solution=["5", "5", None], log_metric=logged.__setitem__) == [
        1.0,
        0.0,
        None,
    ]
    assert logged == {"gmpo_vl_geometry3k/accuracy": 0.5, "gmpo_vl_geometry3k/format": 0.5}
    reward(name="of_form")([WRONG], solution=["5"], log_metric=logged.__setitem__)
    assert logged["of_form/accuracy"] == 0.0
    assert logged["gmpo_vl_geometry3k/accuracy"] == 0.5
    reward(part="format")([RIGHT], solution=["5"], log_metric=lambda *_: pytest.fail("logged twice"))


def test_names_and_pickles(own):
    for one, name in (
        (reward(), "gmpo_vl_geometry3k"),
        (reward("math", part="accuracy", profile="paper"), "gmpo_vl_math_accuracy"),
        (reward(f"{own}:score", bonus=2.0, asynchronous=True), "gmpo_vl_my_reward_score"),
        (reward("math", part="accuracy", name="right"), "right"),
    ):
        again = pickle.loads(pickle.dumps(one))
        assert one.__name__ == again.__name__ == name
        assert type(again) is type(one)
        assert again._reward.kwargs == one._reward.kwargs


def test_an_asynchronous_reward_is_a_coroutine_function():
    later = reward("geometry3k", asynchronous=True)
    assert inspect.iscoroutinefunction(later.__call__)
    assert asyncio.run(later([RIGHT, WRONG], solution=["5", "5"])) == [1.0, 0.0]


HOSTILE = [
    r"\boxed{9^{9^{9^{9^{9}}}}}",
    r"\boxed{(((1+1)^{99999999})!)!}",
    r"\boxed{" * 20_000,
    r"\boxed{" + "{" * 50_000 + "}" * 50_000 + "}",
    r"\boxed{" + r"\frac{1}{" * 5_000 + "1" + "}" * 5_000 + "}",
    r"\boxed{" + "1" * 200_000 + "}",
    r"\boxed{__import__('os').system('exit 1')}",
    "<think>" * 30_000 + r"\boxed{5}",
    "\x00\udcff\ud800" + r"\boxed{\udcff}",
    "",
    r"\boxed{}",
    r"\boxed{\int_{-\infty}^{\infty} e^{-x^2} \prod_{k=1}^{10^{9}} k\,dx}",
]


@pytest.mark.parametrize(
    "name", ["geometry3k", "math", "accuracy", "r1v", "choice", "numeric", "text", "anls", "iou"]
)
def test_hostile_answers_get_a_number(name):
    gold = {"iou": "[0, 0, 10, 10]", "choice": "B"}.get(name, "5")
    scores = reward(name)([*HOSTILE, *map(said, HOSTILE)], solution=[gold] * 2 * len(HOSTILE))
    assert all(isinstance(score, float) and 0 <= score <= 1 for score in scores)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_hostile_answers_do_not_hang_math_verify(monkeypatch, asynchronous):
    """It runs in processes that are killed: the profile paper asks them for what these answers are."""
    monkeypatch.setattr("gmpo_vl.verify.DEADLINE", 5.0)
    judge = reward("math", profile="paper", asynchronous=asynchronous)
    scores = judge(HOSTILE, solution=[r"\{1,2\}"] * len(HOSTILE))
    scores = asyncio.run(scores) if asynchronous else scores
    assert scores == [0.0] * len(HOSTILE)
    monkeypatch.setattr("gmpo_vl.verify.DEADLINE", 3600.0)  # a loaded machine is no stuck worker
    right = judge([r"\boxed{\{2,1\}}"], solution=[r"\{1,2\}"])
    assert (asyncio.run(right) if asynchronous else right) == [1.0]
