"""`data check` on the golds: forms out of reach, wrong options that pass, letters twice, prompts and rewards
that do not agree. Each fault is planted; sound data sets have none.
"""

import json
from typing import Any

import pytest
from judge_server import AT_ONCE, Answer, judge_server, text_of
from planted import encoded, picture

from gmpo_vl.cli import main
from gmpo_vl.data.answers import encode_answer
from gmpo_vl.data.writing import write_parquet
from gmpo_vl.models.tiny import save_tiny
from gmpo_vl.rewards import endpoint
from gmpo_vl.tasks.countdown.data import export as export_countdown
from gmpo_vl.tasks.diagrams.data import export as export_diagrams

BASE = """
engine: local
data: {train_files: TRAIN, max_prompt_length: 512, max_response_length: 6, rollout_batch_size: 4,
       format_prompt: boxed, min_pixels: null, max_pixels: null}
worker:
  actor: {global_batch_size: 2, fsdp: {torch_dtype: fp32, mp_param_dtype: fp32}, model: {model_path: MODEL}}
  rollout: {n: 2}
  reward: {reward_function: REWARD}
trainer: {max_steps: 1, logger: [file], save_checkpoint_path: RUN}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def check(tmp_path, model):
    """Check these rows, or this file: (exit code, the lines of rows.jsonl)."""

    def run(rows, *arguments, reward="accuracy"):
        source = rows
        if isinstance(rows, list):
            source = tmp_path / "rows.jsonl"
            source.write_text("\n".join(map(json.dumps, rows)))
        if "\n" in reward:
            (tmp_path / "mine.py").write_text(reward)
            reward = f"{tmp_path / 'mine.py'}:compute_score"
        text = BASE.replace("TRAIN", str(source)).replace("MODEL", str(model)).replace("REWARD", reward)
        (tmp_path / "run.yaml").write_text(text.replace("RUN", str(tmp_path / "run")))
        out = tmp_path / "check"
        code = main(["data", "check", str(tmp_path / "run.yaml"), *map(str, arguments), "--out", str(out)])
        return code, [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]

    return run


def row(problem: str, gold: Any, **settings) -> dict:
    return {"problem": problem, "answer": encode_answer(gold, **settings)}


COLOURS = ["red", "blue", "green"]
CHOICE = row("Which?\nA. red\nB. blue\nC. green", "B", type="choice", choices=COLOURS)

SPELLING = """
import re
def compute_score(reward_inputs):
    found = [re.findall(r"boxed\\{(.*)\\}", one["response"]) for one in reward_inputs]
    return [{"overall": float(f[-1:] == [one["ground_truth"]])} for f, one in zip(found, reward_inputs)]
"""


def test_a_gold_that_only_its_own_spelling_reaches_is_told_with_the_forms(check):
    code, lines = check([row("How long?", "4.4 m"), row("Which?", "purple")], reward=SPELLING)
    assert code == 0  # a warning
    assert [(line["row"], line["reason"]) for line in lines] == [
        (0, "gold_unreachable"),
        (1, "gold_unreachable"),
    ]
    assert "unit left out: '4.4'" in lines[0]["detail"]
    assert "as in a title: 'Purple'" in lines[1]["detail"]


# Pays whatever begins like a letter, in a box or not.
LAX = """
def compute_score(reward_inputs):
    return [{"overall": float(any(c in one["response"] for c in "ABC"))} for one in reward_inputs]
"""


def test_a_wrong_option_that_passes_is_an_error(check):
    code, lines = check([CHOICE], reward=LAX)
    found = {line["reason"]: line["detail"] for line in lines}
    assert code == 1
    assert "option A: 'A'" in found["wrong_choice_passes"]
    assert "option C with its text: 'C. green'" in found["wrong_choice_passes"]


ANYTHING = """
def compute_score(reward_inputs):
    return [{"overall": PAID * ("boxed" in one["response"])} for one in reward_inputs]
"""


@pytest.mark.parametrize("paid", [1.0, 0.5, 0.0])
def test_a_reward_that_pays_for_anything_is_one_error_of_the_split(paid, check):
    rows = [row(f"What is 1 + {i}?", str(i + 1)) for i in range(30)]
    code, lines = check(rows, reward=ANYTHING.replace("PAID", str(paid)))
    whole = [line for line in lines if line["level"] == "error"]
    assert ([line["reason"] for line in whole], code) == (
        ["reward_pays_anything"] * (paid > 0),
        int(paid > 0),
    )
    assert not whole or f"pays {paid:g} for the wrong '\\\\boxed{{no such answer}}'" in whole[0]["detail"]
    others = {line["reason"] for line in lines} - {"reward_pays_anything"}
    assert others == {"wrong_answer_passes" if paid else "gold_not_verified"}
    _, lines = check([CHOICE], reward=ANYTHING.replace("PAID", str(paid)))
    assert ("wrong_choice_passes" in {line["reason"] for line in lines}) == (paid > 0)


CONTAINED = """
def compute_score(reward_inputs):
    return [{"overall": float(r["ground_truth"] in r["response"].lower())} for r in reward_inputs]
"""


def test_a_wrong_answer_that_holds_the_gold_is_told_where_it_passes(check):
    rows = [row(f"Question {i}?", gold) for i, gold in enumerate(["2", "-0.5", "purple", "100", "left side"])]
    code, lines = check(rows, reward=CONTAINED)
    assert (code, [line["row"] for line in lines]) == (0, [0, 2, 3, 4])  # -10.5 does not hold -0.5
    assert {line["reason"] for line in lines} == {"wrong_answer_passes"}
    assert "and the wrong '\\\\boxed{12}' no less" in lines[0]["detail"]
    for reward in ("accuracy", "math", "text", "anls", "r1v"):
        _, lines = check(rows, reward=reward)
        assert "wrong_answer_passes" not in {line["reason"] for line in lines}


def test_letters_that_stand_twice_are_told(check):
    doubled = row("Which?\nA. A. 300\nB. B. 500", "A", type="choice", choices=["A. 300", "B. 500"])
    written = row("Which?\nA. (A) 300\nB. (B) 500", "A")
    names = row(
        "Which?\nA. A. Lincoln\nB. G. Washington", "A", type="choice", choices=["A. Lincoln", "G. Washington"]
    )
    labels = row("Which?\nA. A)\nB. B)", "A", type="choice", choices=["A)", "B)"])
    _, lines = check([doubled, written, names, labels, CHOICE])
    assert [line["row"] for line in lines if line["reason"] == "choices_doubled"] == [0, 1]


def test_two_options_that_say_the_same_are_told_with_their_letters(check):
    equal = [
        ["red", "blue", "red"],
        ["red", "blue", " Red."],
        ["5", "6", "$5$"],
        ["tv", "pc", "TV"],
        ["50%", "5%", r"50\%"],
        ["snow_board", "ski", r"snow\_board"],
        ["x^2", "x", "x^{2}"],
        ["6 ft", "7 feet", "6 feet"],
        ["100 cm", "10 m", "1 m"],
        ["$1", "10 cents", "100 cents"],
        ["90°", "9 degrees", "90 degrees"],
        ["5 ft 6 in", "56 inches", "66 inches"],
        ["36 km/h", "36 m/s", "10 m/s"],
    ]
    other = [
        ["CO", "Co"],
        ["mL", "ML"],
        ["a", "A"],
        ["4000, 3000", "3000, 4000"],
        ["$5", "5 cents"],
        ["<image>", "<image>"],
        ["5.0", "5.00"],
        ["+", "-"],
        ["a cat", "no cat"],
        ["5 cm", "5 m", "5"],
        ["5 cm", "5.0 cm", "5 cm^2"],
        ["3 m × 4 m", "4 m × 3 m"],
        ["3 m or 4 m", "4 m or 3 m"],
        ["20 °C", "20 °F"],
        ["6 feet", "6 feet tall"],
        ["3 apples", "3 pears"],
    ]
    rows = [
        row(f"Which is {i}?", "B", type="choice", choices=options) for i, options in enumerate(equal + other)
    ]
    code, lines = check(rows)
    told = [line for line in lines if line["reason"] == "choices_equal"]
    assert code == 0
    assert [line["row"] for line in told] == list(range(len(equal)))
    assert {line["level"] for line in told} == {"warning"}
    assert "options A and C: 'red' and 'red'" in told[0]["detail"]


CASED = r"""
import re
def compute_score(reward_inputs):
    found = [re.sub(r'\\(boxed|text)|[{}*".。]', "", one["response"]).split() for one in reward_inputs]
    return [{"overall": float(f == one["ground_truth"].split())} for f, one in zip(found, reward_inputs)]
"""


def test_a_reward_that_refuses_a_word_in_another_case_is_told_so(check):
    words = ["tv", "up", "x-ray", "bmw", "snow board"]
    _, lines = check([row(f"What is {word}?", word) for word in words], reward=CASED)
    assert [line["reason"] for line in lines] == ["gold_unreachable"] * len(words)
    for line, word in zip(lines, words):
        assert f"in capitals: {word.upper()!r}" in line["detail"]
    _, lines = check(
        [row(f"What is {word}?", word) for word in [*words, "3d", "hp", "AP", "two", "2"]], reward="text"
    )
    assert lines == []
    _, lines = check([row(f"What is {word}?", word) for word in words], reward="accuracy")
    assert lines == []


def test_a_prompt_and_a_reward_that_do_not_agree_are_one_error(check, tmp_path):
    rows = [row(f"What is 1 + {i}?", str(i + 1)) for i in range(40)]
    own = tmp_path / "own.jinja"
    own.write_text("{{ content }} Write only <answer>your answer</answer>.")
    for prompt, reward in ((own, "accuracy"), ("r1v", "math"), ("math", "r1v")):
        code, lines = check(rows, f"data.format_prompt={prompt}", reward=reward)
        assert (code, [line["reason"] for line in lines]) == (1, ["prompt_and_reward"])
    # Some rows ask for another place themselves: the first of them is named.
    mixed = [*rows, row("What is 2 + 2? Answer in <answer></answer>.", "4")]
    code, lines = check(mixed, "data.format_prompt=null")
    told = [line for line in lines if line["reason"] == "prompt_and_reward"]
    assert (code, len(told)) == (1, 1)
    assert "<answer>4</answer>" in told[0]["detail"]


def test_rows_of_a_split_that_does_not_agree_are_not_dropped(check, tmp_path):
    rows = [row(f"What is 1 + {i}?", str(i + 1)) for i in range(5)]
    check(rows, "data.format_prompt=r1v", "--clean", tmp_path / "clean", reward="accuracy")
    assert (tmp_path / "clean/dropped.jsonl").read_text() == ""


def test_that_a_prompt_asks_for_no_place_is_a_note(check):
    arguments = ("data.format_prompt=null", "--fail-on", "warning")
    code, lines = check([row("What is 1 + 1?", "2")], *arguments)
    assert (code, [line["reason"] for line in lines]) == (0, ["answer_place_unsaid"])


STRICT = """
def compute_score(reward_inputs):
    scores = []
    for one in reward_inputs:
        said = one["response"].split("boxed{")[-1].split("}")[0]
        if said not in ("2", "no such answer"):
            raise ValueError("no number: " + said)
        scores.append({"overall": float(said == one["ground_truth"])})
    return scores
"""


def test_a_reward_that_raises_on_a_form_has_not_refused_the_gold(check):
    _, lines = check([row("What is 1 + 1?", "2"), row("What is 1 + 2?", "3")], reward=STRICT)
    assert [(line["row"], line["reason"]) for line in lines] == [(0, "gold_unreachable"), (1, "gold_refused")]
    assert "the reward raises an error: ValueError" in lines[0]["detail"]


LOOKING = """
REWARD_INPUTS = ("images", "meta")
def compute_score(reward_inputs):
    scores = []
    for one in reward_inputs:
        seen = one["images"][0].size == (80, 60)
        scores.append({"overall": float(seen and "{" + one["ground_truth"] + "}" in one["response"])})
    return scores
"""


def test_a_reward_that_looks_at_pictures_is_given_them(check, tmp_path):
    rows = [{"images": [encoded(picture(i))], "problem": "<image>How many?", "answer": "5"} for i in range(3)]
    rows[1]["images"] = [b"no picture"]
    write_parquet(tmp_path / "a.parquet", rows)
    _, lines = check(tmp_path / "a.parquet", reward=LOOKING)
    found = {(line["row"], line["reason"]) for line in lines}
    assert found == {(0, "gold_unreachable"), (1, "image_unreadable"), (2, "gold_unreachable")}


JUDGE = """
ASKS_ENDPOINT = True
def compute_score(reward_inputs):
    with open("ASKED", "a") as file:
        file.writelines(one["ground_truth"] + "\\n" for one in reward_inputs)
    wrong = [("no such", "1" + one["ground_truth"]) for one in reward_inputs]
    return [{"overall": float(not any(map(r["response"].count, w)))} for r, w in zip(reward_inputs, wrong)]
"""


def test_a_judge_is_asked_about_as_many_rows_as_are_wanted_and_no_more(check, tmp_path):
    judge = JUDGE.replace("ASKED", str(tmp_path / "asked"))
    rows = [row(f"What is 1 + {i}?", str(i + 1)) for i in range(40)]
    _, lines = check(rows, reward=judge)
    assert [line["reason"] for line in lines] == ["judge_not_asked"]
    assert not (tmp_path / "asked").exists()
    for workers in (0, 2):
        code, lines = check(rows, "--ask-judge", 4, "--workers", workers, reward=judge)
        assert (code, lines) == (0, [])
        assert len(set((tmp_path / "asked").read_text().split())) == 4
        (tmp_path / "asked").unlink()


def test_a_gold_about_which_the_judge_did_not_answer_is_told_as_that(check, tmp_path):
    def answer(asked):
        """It fails on whatever is asked about one gold, and on a single form of another."""
        if "red ball" in text_of(asked) or "not red cube" in text_of(asked):
            return Answer("", status=500, headers=AT_ONCE)
        return Answer('{"correct": false}')

    endpoint.replies_in.cache_clear()
    golds = ["red ball", "red cube", *(f"red {name}" for name in ("cone", "ring", "disk", "book"))]
    rows = [row(f"What is thing {i}?", gold) for i, gold in enumerate(golds)]
    with judge_server(answer) as server:
        options = {"model": "m", "base_url": server.url, "api_key_env": "null", "max_retries": 0}
        options |= {"cache": tmp_path / "kept"}
        given = [f"worker.reward.reward_function_kwargs.{key}={value}" for key, value in options.items()]
        code, lines = check(rows, "--ask-judge", len(rows), *given, reward="judge")
    found = {line["row"]: line for line in lines if line["reason"] == "reward_unanswered"}
    assert (code, sorted(found)) == (0, [0, 1])
    assert {line["reason"] for line in lines} == {"reward_unanswered"}
    assert found[0]["level"] == "warning"
    assert "the judge did not answer about 1 of 2 responses" in found[0]["detail"]


def test_a_reward_of_one_s_own_that_gives_no_score_is_told_as_that(check):
    unscored = """
def compute_score(reward_inputs):
    def pays(r):
        return None if r["ground_truth"] == "3" else float("{" + r["ground_truth"] + "}" in r["response"])
    return [{"overall": pays(one)} for one in reward_inputs]
"""
    rows = [row(f"What is 1 + {i}?", str(i + 1)) for i in range(4)]
    _, lines = check(rows, reward=unscored)
    (line,) = [line for line in lines if line["row"] == 2]
    assert line["reason"] == "reward_unanswered"
    assert "gives no score about 2 of 2 responses" in line["detail"]


def test_an_endpoint_that_does_not_answer_is_told_once_and_not_asked_on(check, tmp_path):
    broken = "    raise ConnectionError('nobody there')\n"
    judge = JUDGE.replace("ASKED", str(tmp_path / "asked")).replace("    return", f"{broken}    return")
    rows = [row(f"What is 1 + {i}?", str(i + 1)) for i in range(80)]
    code, lines = check(rows, "--ask-judge", 20, "--clean", tmp_path / "clean", reward=judge)
    assert (code, [line["reason"] for line in lines]) == (1, ["judge_failed"])
    assert "nobody there" in lines[0]["detail"]
    assert len((tmp_path / "asked").read_text().split()) == 2 * 8, "the first 32 rows' questions alone"
    assert (tmp_path / "clean/dropped.jsonl").read_text() == ""


def test_golds_that_begin_like_an_object_are_read_or_told(check):
    """None ends the check: text is a gold, and an object that `encode_answer` did not write is an error."""
    texts = ["{1, 2}", '{"a": 1}', "{x"]
    objects = ['{"gold": true}', '{"gold": "A", "choices": "abc"}', '{"gold": "A", "choices": 5}']
    rows = [{"problem": f"Which set is number {i}?", "answer": a} for i, a in enumerate([*texts, *objects])]
    _, lines = check(rows)
    errors = [(line["row"], line["reason"]) for line in lines if line["level"] == "error"]
    assert errors == [(i, "answer_form") for i in (3, 4, 5)]


def test_graded_rewards_are_held_to_a_right_answer_worth_more_than_a_wrong_one(check):
    boxes = [row("Where is the cat?", "[10, 20, 110, 220]")]
    words = [row("What does the sign say?", ["Main Street", "Main St"])]
    assert check(boxes, reward="iou") == (0, [])
    assert check(words, reward="anls") == (0, [])


def test_sound_data_sets_are_clean(check, tmp_path):
    export_diagrams(tmp_path / "diagrams", {"train": 60})
    assert check(tmp_path / "diagrams/train.parquet") == (0, [])
    assert check([CHOICE, row("How long?", "4.4 m"), row("Where?", "A(2,3)")]) == (0, [])
    export_countdown(tmp_path / "countdown", {"train": 20})
    assert check(tmp_path / "countdown/train.parquet", "data.format_prompt=null", reward="countdown") == (
        0,
        [],
    )
