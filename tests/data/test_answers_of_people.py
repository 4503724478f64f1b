"""Answers that stand in sentences, that several people gave, or that are joined: taken out or asked about."""

import json
from pathlib import Path

import pytest

from gmpo_vl.data.convert import convert
from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.start.write import Start, write_start
from gmpo_vl.data.template_filters import given_by, marked_answer
from gmpo_vl.verify import parse_gold

WORKED = "Since AB is parallel to CD, angle 2 equals angle 1. "


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def started(rows: list[dict]) -> Start:
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return write_start("mine", "a.jsonl")


def guess_of(start: Start, key: str):
    return next(guess for guess in start.guesses if guess.key == key)


def golds() -> list[tuple[str, ...]]:
    card = convert("mine.yaml", "out")
    examples = [e for split in card.splits for e in load_examples(f"out/{split}.parquet")]
    return sorted(tuple(parse_gold(e.answer).alternatives) for e in examples)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (f"{WORKED}Therefore, the correct option is C.\nAnswer:C", "C"),
        ("The answer is B.", "B"),
        ("Answer: 12 cm", "12 cm"),
        ("**Answer:** C", "C"),
        ("So the **final answer is 42**", "42"),
        ("LECTURE: x\n###\nANSWER: A.", "A"),
        ("The answer is A.\nBECAUSE: it is red and big.", "A"),
        ("The answer is B. Because it is red.", "B"),
        ("The answer is 12. I hope that it helps.", "12"),
        ("The answer is 3.5.", "3.5"),
        ("The answer is J. Smith.", "J. Smith"),
        ("The answer is St. Louis.", "St. Louis"),
        ("The correct answer is B. red", "B. red"),
        ("the correct option is C, which equals 35 degrees.", "C"),
        ("The answer to this question is two dogs.", "two dogs"),
        ("Hence, choice (C) is the right answer.", "(C)"),
        ("My answer would be 5", "5"),
        ("Ans: $\\frac{1}{2}$.", "$\\frac{1}{2}$"),
        ("Answer - yes", "yes"),
        ("因此答案为：35°。", "35°"),
        ("故选：C", "C"),
        ("The answer is 3. No wait, it is not. The answer is 4.", "4"),
        ("The answer is 3. The answer is 4. Who knows what it is?", None),
        ("The answer is obtained by adding 3 and 4.", None),
        ("The answer is not 5", None),
        ("The man is ironing clothes.", None),
        ("We transfer: 5", None),
        ("the meaning is correct", None),
        ("Answer:", None),
        ("Answer: " * 20_000, None),
        ("The answer is " + "x" * 300, None),
        (r"Answer: 3, so \boxed{4}", "4"),
        (r"Answer: 3, so \boxed{4", None),
    ],
)
def test_what_a_text_states_is_its_answer(text, answer):
    assert marked_answer(text) == answer


@pytest.mark.parametrize("end", ["The correct option is {}.\nAnswer:{}", "The answer is {}.", "Answer: {}"])
def test_the_stated_answer_of_a_chat_is_taken_and_said(end):
    asked = "Find angle 2 of {}.\nChoices:\nA:50°\nB:60°\nC:{}°"
    rows = [
        {
            "conversations": [
                {"from": "human", "value": asked.format(i, 90 + i)},
                {"from": "gpt", "value": WORKED + end.replace("{}", "ABC"[i % 3])},
            ]
        }
        for i in range(12)
    ]
    answer = guess_of(started(rows), "answer")
    assert answer.value == "{{ conversations[1].value | final_answer }}"
    assert "its texts state the answer; from " in answer.why
    assert "'A' is taken" in answer.why
    assert golds() == [(letter,) for letter in "AAAABBBBCCCC"]


def test_answers_of_which_only_some_are_stated_are_asked_for():
    rows = [{"question": f"{i}?", "answer": f"The answer is {i}." if i % 2 else str(i)} for i in range(12)]
    start = started(rows)
    assert start.asks == ["answer"]
    said = "'answer' states the answer in words in 6 of 12 rows, as in 'The answer is 1.': \"{{ answer |"
    assert said in guess_of(start, "answer").why


def test_whole_sentences_are_said_to_be_that():
    rows = [{"question": f"{i}?", "answer": f"The man number {i} is ironing his clothes."} for i in range(9)]
    assert "WHOLE SENTENCES such as" in guess_of(started(rows), "answer").why


def people(*given: str, sure: str = "yes") -> list[dict]:
    return [{"answer": text, "answer_confidence": sure} for text in given]


def test_an_answer_counts_that_enough_people_gave():
    answers = [*people("Cup", "cup.", "mug", "mug", "cup"), *people("tea", "tea", "tea", sure="no")]
    assert given_by(answers, 3) == given_by(str(answers), 3) == ["Cup"]
    assert given_by(answers, 2) == ["Cup", "mug"]
    assert given_by([3, "3", None, ""], 2) == ["3"]
    with pytest.raises(ValueError, match="no answer was given by 4 of 8 people; 'Cup' was, by 3"):
        given_by(answers, 4)
    with pytest.raises(ValueError, match=r"no answer was given by 1 of 0 people$"):
        given_by([], 1)
    with pytest.raises(ValueError, match="takes a list of answers, not 'cup'"):
        given_by("cup", 3)


@pytest.mark.parametrize("form", ["confidence", "texts", "written"])
def test_of_peoples_answers_those_are_golds_that_three_of_ten_gave(form):
    def answers(i: int):
        if form == "confidence":
            unsure = people("unanswerable", "unanswerable", "unanswerable", sure="no")
            return [*people(f"cup {i}", f"cup {i}", f"Cup {i}", "mug", "a", "b", "c"), *unsure]
        given = [f"cup {i}", f"cup {i}", f"cup {i}", "mug", "mug", "mug", "a", "b", "c", "d"]
        return given if form == "texts" else str(given)

    answer = guess_of(started([{"question": f"{i}?", "answers": answers(i)} for i in range(10)]), "answer")
    assert answer.value == "{{ answers | given_by(3) }}"
    assert answer.why == "several people's answers, of which those count that 3 or more gave"
    more = () if form == "confidence" else ("mug",)
    assert golds() == [(f"cup {i}", *more) for i in range(10)]


def test_rows_on_which_people_do_not_agree_and_those_without_an_answer_are_said():
    def answers(i: int) -> list[str]:
        if i < 2:
            return [f"word {k}" for k in range(10)]
        return ["unanswerable"] * 10 if i < 5 else [f"cup {i}"] * 6 + ["unanswerable"] * 4

    start = started([{"question": f"{i}?", "answers": answers(i)} for i in range(10)])
    answer = guess_of(start, "answer")
    assert answer.value == "{{ answers | given_by(3) | reject('equalto', 'unanswerable') | list }}"
    assert "; 2 of 10 rows have none and are dropped; 'unanswerable' (in 8) is no answer" in answer.why
    assert start.faults.counts() == {"empty_answer": 3, "template": 2}
    assert golds() == [(f"cup {i}",) for i in range(5, 10)]


def test_spellings_of_one_answer_are_no_peoples_answers():
    rows = [{"question": f"{i}?", "answers": [f"1/{i}/84", f"1/{i}/1984"]} for i in range(9)]
    assert guess_of(started(rows), "answer").value == "answers"


def test_answers_joined_by_or_are_alternatives_and_those_joined_by_and_are_left_out():
    """MM-Vet."""
    forms = ["x=-{0}<AND>y=5", "{0}<OR>{0} apples", "{0}", "{0}<AND>2<OR>{0}<AND>3"]
    rows = [{"question": f"{i}?", "answer": forms[i % 4].format(i)} for i in range(12)]
    start = started(rows)
    answer = guess_of(start, "answer")
    assert answer.value == "{{ (answer).split('<OR>') }}"
    assert "<OR> (6 rows) parts answers of which any is right; <AND> (6 rows) asks for several" in answer.why
    assert guess_of(start, "keep").value == "'<AND>' not in answer | string"
    assert golds() == sorted(
        [("1", "1 apples"), ("2",), ("5", "5 apples"), ("6",), ("9", "9 apples"), ("10",)]
    )
    assert convert("mine.yaml", "other").not_kept == 6
