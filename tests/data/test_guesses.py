"""What `data new` makes of the usual layouts: recognised by names and values, or asked about."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from planted import encoded, picture

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.data.convert import convert
from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.rows import DataError
from gmpo_vl.data.start.pictures import guess_marks
from gmpo_vl.data.start.run import guess_reward
from gmpo_vl.data.start.write import write_start
from gmpo_vl.rewards.loading import load_reward
from gmpo_vl.verify import parse_gold

BOTTLE = "so there are 3 bottles and 2 cans, which is why the whole must be the sum of the two numbers. "
STORED = [{"bytes": encoded(picture(i)), "path": None} for i in range(12)]


def turns(keys: tuple[str, str], *said: tuple[str, object]) -> list[dict]:
    return [dict(zip(keys, pair)) for pair in said]


def parts(*content: str | None) -> list[dict]:
    return [
        {"type": "image", "text": None} if text is None else {"type": "text", "text": text}
        for text in content
    ]


LLAVA, OPENAI = ("from", "value"), ("role", "content")
LAYOUTS = {  # name: (row number i, what must be in the mapping, reward, format_prompt, first answer)
    "long solution beside the answer": (
        lambda i: {"question": f"{i}?", "solution": BOTTLE * 9, "answer": str(i)},
        {"problem": "question", "answer": "answer"}, "accuracy", "boxed", "0",
    ),
    "answer in the last box of a solution": (
        lambda i: {
            "problem": f"{i}?",
            "solution": f"{BOTTLE * 9} \\boxed{{1}}, no: \\boxed{{\\frac{{{i}}}{{7}}}}.",
        },
        {"answer": "{{ solution | final_answer }}"}, "accuracy", "boxed", "\\frac{0}{7}",
    ),
    "answer in a tag": (
        lambda i: {"image": STORED[i], "problem": f"{i}?", "solution": f"<answer> {i}° </answer>"},
        {"images": "image", "answer": "{{ solution | final_answer }}"}, "accuracy", "boxed", "0°",
    ),
    "gsm8k": (
        lambda i: {"question": f"{i}?", "answer": f"{BOTTLE * 4}\n#### {i},000"},
        {"answer": "{{ answer | final_answer }}"}, "accuracy", "boxed", "0,000",
    ),
    "llava chat with a second question": (
        lambda i: {
            "id": f"n{i}",
            "image": STORED[i],
            "conversations": turns(
                LLAVA,
                ("human", f"<image>\nWho is number {i}?"),
                ("gpt", "Anna"),
                ("human", "Where?"),
                ("gpt", "Rome"),
            ),
        },
        {"problem": "{{ conversations[0].value }}", "answer": "{{ conversations[1].value }}", "id": "id"},
        "text", "boxed", "Anna",
    ),
    "messages in parts, a system turn in some": (
        lambda i: {
            "images": [STORED[i]],
            "messages": turns(
                OPENAI,
                *([("system", parts("Be short."))] if i % 2 else []),
                ("user", parts(None, f"How many in {i}?")),
                ("assistant", parts(str(i))),
            ),
        },
        {
            "problem": "{{ (messages | selectattr('role', 'in', ['human', 'user']) | first)"
            ".content | as_text }}",
            "images": "images",
        },
        "accuracy", "boxed", "0",
    ),
    "verl": (
        lambda i: {
            "data_source": "geo3k",
            "prompt": turns(OPENAI, ("user", f"<image>Find {i}. Put it in \\boxed{{}}.")),
            "images": [STORED[i]],
            "reward_model": {"ground_truth": str(i), "style": "rule"},
            "extra_info": {"split": "train", "index": i},
        },
        {"problem": "{{ prompt[0].content }}", "answer": "{{ reward_model.ground_truth }}"},
        "accuracy", "plain", "0",
    ),
    "the prompt asks for a tag": (
        lambda i: {"question": f"{i}? Answer in <answer> </answer> tags.", "answer": i},
        {}, "r1v", "plain", "0",
    ),
    "choices from 0": (
        lambda i: {"question": f"{i}?", "choices": ["red", "green", "blue"], "answer": i % 3},
        {"choices": "choices", "answer_is": "index"}, "choice", "boxed", "A",
    ),
    "choices from 1, in columns, and the answer's text beside": (
        lambda i: {"q": f"{i}?", "option1": f"red {i}", "option2": "green", "correct_option": 1 + i % 2},
        {"choices": ["option1", "option2"], "answer": "correct_option", "answer_is": "number"},
        "choice", "boxed", "A",
    ),
    "choices in the question": (
        lambda i: {"question": f"Which is {i}?\nA. red\nB. green\nC. {i} blue", "answer": "ABC"[i % 3]},
        {"choices": "question"}, "choice", "boxed", "A",
    ),
    "letters without choices": (
        lambda i: {"question": f"Which of the four is {i}?", "answer": "ABCD"[i % 4]},
        {}, "choice", "boxed", "A",
    ),
    "choices no and yes by 0 and 1": (
        lambda i: {"question": f"Is there a {i} in it?", "choices": ["yes", "no"], "answer": str(i % 2)},
        {"choices": "choices", "answer": "answer", "answer_is": "index"}, "choice", "boxed", "B",
    ),
    "choices true and false by truth": (
        lambda i: {"question": f"Is there a {i} in it?", "choices": ["True", "False"], "answer": i % 2 == 1},
        {"choices": "choices", "answer": "answer"}, "choice", "boxed", "A",
    ),
    "people's answers": (
        lambda i: {"question": f"What is {i}?", "answers": [{"answer": "cup"}, {"answer": "mug"}] * 5},
        {"answer": "{{ answers | given_by(3) }}"}, "text", "boxed", "cup",
    ),
    "people's answers as text": (
        lambda i: {"question": f"What is {i}?", "answers": str(["cup", "mug", "cup"])},
        {"answer": "answers"}, "text", "boxed", "cup",
    ),
    "a box": (
        lambda i: {"question": f"Where is {i}?", "image": STORED[i], "bbox": [i, 2, 30, 40]},
        {"answer": "{{ bbox }}"}, "iou", "boxed", "[0, 2, 30, 40]",
    ),
    "options in a chat, and text after the letter": (
        lambda i: {"conversations": turns(
            LLAVA,
            ("human", f"Which is {i}?\nA. red\nB. blue"),
            ("gpt", f"<think>?</think><answer>{['A', 'B. blue'][i % 2]}</answer>"),
        )},
        {"choices": "{{ conversations[0].value }}"}, "choice", "boxed", "B",
    ),
    "options in every second question": (
        lambda i: {
            "question": f"Is {i}?" + "\nA. red\nB. blue" * (i % 2),
            "answer": "AB"[i // 2 % 2] if i % 2 else "3",
        },
        {"choices": "question"}, "accuracy", "boxed", "B",
    ),
    "texts in brackets": (
        lambda i: {"question": f"[Note] What is {i}?", "answer": f"[{i}, 2, 0]", "image": STORED[i]},
        {"answer": "answer", "images": "image"}, "accuracy", "boxed", "[0, 2, 0]",
    ),
    "true and false": (
        lambda i: {"question": f"Is there a {i} in it?", "label": i % 2 == 1},
        {"answer": "{{ 'yes' if label else 'no' }}"}, "text", "boxed", "no",
    ),
    "numbered pictures with marks in no order": (
        lambda i: {
            "image_1": STORED[i], "image_2": None if i % 2 else STORED[11 - i],
            "question": f"What is in <image 1>{i}?" if i % 2 else f"<image 2> or <image 1> {i}?", "answer": i,
        },
        {"images": ["image_1", "image_2"], "image_marks": "<image {n}>", "image_place": "front"},
        "accuracy", "boxed", "0",
    ),
    "a foreign mark": (
        lambda i: {"image": STORED[i], "query": f"<ImageHere> What is {i}?", "response": i},
        {"problem": "{{ (query) | replace('<ImageHere>', '<image>') }}", "answer": "response"},
        "accuracy", "boxed", "0",
    ),
    "values read off a chart": (
        lambda i: {"chart_type": "bar", "image": STORED[i], "query": f"{i}?", "label": [f"{i}.5"]},
        {"tolerance": 0.05, "answer": "label"}, "numeric", "boxed", "0.5",
    ),
    "several right answers": (
        lambda i: {"question": f"Who is {i}?", "image": STORED[i], "answers": ["Anna", "anna k"]},
        {"answer": "answers"}, "text", "boxed", "Anna",
    ),
    "a context, and an id that repeats": (
        lambda i: {"passage": f"All are {i}.", "question": "How many are there?", "answer": i, "id": i // 2},
        {"problem": "{% if passage %}{{ passage }}\n{% endif %}{{ question }}", "id": None},
        "accuracy", "boxed", "0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_usual_layout_needs_no_edit(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row, wanted, reward, template, answer = LAYOUTS[name]
    pq.write_table(pa.Table.from_pylist([row(i) for i in range(12)]), "a.parquet")
    start = write_start("mine", "a.parquet")
    found = {guess.key: guess.value for guess in start.guesses}
    assert {key: found.get(key) for key in wanted} == wanted
    assert start.asks == []
    assert start.faults == []
    run = yaml.safe_load(Path("mine_run.yaml").read_text())
    assert run["worker"]["reward"]["reward_function"] == reward
    assert run["data"]["format_prompt"] == template
    card = convert("mine.yaml", "out")
    assert card.dropped == {}
    examples = [e for split in card.splits for e in load_examples(f"out/{split}.parquet")]
    assert len(examples) == 12
    assert answer in {parse_gold(e.answer).alternatives[0] for e in examples}


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        (lambda i: {"question": f"{i}?", "solution": BOTTLE * 9}, "'solution' holds long texts that mark no"),
        (lambda i: {"question": f"{i}?", "answer": None if i else "1"}, "'answer' is empty in most rows"),
        (lambda i: {"question": f"{i}?", "answers": [{"n": "1"}]}, "'answers' holds lists of mappings"),
        (lambda i: {"question": f"Is it {i}?", "gt_answer": str(i % 2)}, "{{ 'yes' if gt_answer |"),
        (lambda i: {"question": f"{i}?", "answer": [1, 2] * (1 + i % 2)}, "'answer' holds lists of numbers"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_not_taken_for_one(row, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text("\n".join(json.dumps(row(i)) for i in range(12)))
    start = write_start("mine", "a.jsonl")
    assert start.asks == ["answer"]
    assert asked in next(guess.why for guess in start.guesses if guess.key == "answer")


def test_a_number_that_can_be_an_index_or_a_number_is_not_guessed(tmp_path, monkeypatch):
    """Every row is then refused, with what it could mean: never a wrong gold."""
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"{i}?", "choices": ["a", "b", "c", "d"], "answer": 1 + i % 3} for i in range(12)]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    start = write_start("mine", "a.jsonl")
    assert "answer_is" not in {guess.key for guess in start.guesses}
    assert start.faults.counts() == {"answer_choice": 12}


@pytest.mark.parametrize(("first", "form"), [(0, "index"), (1, "number")])
def test_what_numbers_count_is_seen_over_all_rows(first, form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, options in (
        ("written", ["1. red", "2. green", "3. blue"]),
        ("plain", ["red", "green", "blue"]),
    ):
        rows = [{"question": f"{i}?", "options": options, "answer": first + i % 3} for i in range(12)]
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        start = write_start(name, f"{name}.jsonl")
        assert {guess.key: guess.value for guess in start.guesses}["answer_is"] == form
        assert not start.faults
    rows = [{**row, "options": {"1": "red", "2": "green", "3": "blue"}} for row in rows]
    Path("named.jsonl").write_text("\n".join(map(json.dumps, rows)))
    start = write_start("named", "named.jsonl")  # what the row itself calls 1, 2, 3
    assert ("answer_is" in {guess.key for guess in start.guesses}) == (first == 0)
    assert not start.faults


def test_marks_of_pictures_are_read_from_the_texts():
    def found(texts, counts):
        return {guess.key: guess.value for guess in guess_marks(texts, counts)}

    assert found(["What is in <image1>?", "x"], [1, 1]) == {"image_marks": "<image{n}>"}
    assert found(["[img1] and [img2]"], [1]) == {"image_marks": "[img{n}]", "image_place": "front"}
    assert found(["<image> and (image 1)"], [1]) == {}
    assert found(["a", "b"], [1, 1]) == {}


def test_a_column_that_is_called_after_pictures_is_asked_about_where_no_file_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"image_id": 100 + i, "question": f"What is at {i}?", "answer": f"cat {i}"} for i in range(12)]
    Path("rows.json").write_text(json.dumps(rows))
    write_start("cats", "rows.json")
    assert "images: COLUMN" in Path("cats.yaml").read_text()
    with pytest.raises(DataError, match="COLUMN"):
        convert("cats.yaml", "out")


def test_a_column_of_choices_that_cannot_be_read_is_asked_about(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"Is {i} even?", "choices": "yes,no", "answer": i % 2} for i in range(12)]
    Path("rows.json").write_text(json.dumps(rows))
    write_start("even", "rows.json")
    with pytest.raises(DataError, match="COLUMN"):
        convert("even.yaml", "out")
    assert "'yes,no'" in Path("even.yaml").read_text()


WORDS = ["tv", "up", "x-ray", "3d", "bmw", "AP", "ma", "2", "cat", "7:30", "red", "747", "snow_board", "4k"]
NAMED_SIDES = ["5", "7", "AB", "9.2", "12", "AP", "45", "60", "ABC", "yes"]
ANSWERS = {  # what the answers are like: (answers, the reward)
    "a picture's words": (WORDS, "text"),
    "counts and words": (["2", "3", "yes", "no", "12", "cat", "5", "4", "1", "dog"], "text"),
    "prices": (["$5", "$12.50", "10%", "yes", "red", "5 cm"], "text"),
    "words and a formula in ten": (
        ["apple", "27.9", "three", "no", "Boston", "59", "dog", "yes", "x = -1", "up"], "text",
    ),
    "numbers with few words": (["1"] * 17 + ["cat", "dog", "yes"], "accuracy"),
    "sides and angles": (NAMED_SIDES, "accuracy"),
    "roots": (["5", r"2\sqrt{3}", "AB", "9.2", "AP", "x = 3", "yes"], "accuracy"),
    "algebra": (["x^2", "yes", "3x+1", "even", r"\frac12", "a+b", "lwh"], "accuracy"),
    "fractions": (["1/2", "3/4", "yes", "no", "5", "6"], "accuracy"),
    "numbers": (["1", "2", "3"], "accuracy"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_letters_are_words_where_most_answers_are(name):
    answers, reward = ANSWERS[name]
    assert guess_reward(answers, answers, ["question"])[0] == reward
    options = encode_answer("A", type="choice", choices=["red", "blue"])
    mixed = [*answers, *[options] * len(answers)]
    golds = [*answers, *["A"] * len(answers)]
    assert guess_reward(mixed, golds, ["question"])[0] == reward


def test_a_set_of_words_and_numbers_goes_from_its_table_to_paid_answers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"What is on {i}?", "answer": WORDS[i]} for i in range(len(WORDS))]
    pq.write_table(pa.Table.from_pylist(rows), "a.parquet")
    write_start("mine", "a.parquet")
    convert("mine.yaml", "out")
    run = yaml.safe_load(Path("mine_run.yaml").read_text())
    reward = load_reward(run["worker"]["reward"]["reward_function"])
    said = {"tv": "TV", "up": "Up", "x-ray": "X-ray", "3d": "3D", "bmw": "BMW", "AP": "ap",
            "2": "two", "4k": "4K", "snow_board": r"snow\_board", "7:30": "7{:}30"}  # fmt: skip
    wrong = {"AP": "PA", "ma": "am", "3d": "2d", "2": "three"}
    golds = {e.answer for split in ("train", "validation") for e in load_examples(f"out/{split}.parquet")}
    assert golds == set(WORDS)
    for answers, worth in ((said, 1.0), (wrong, 0.0)):
        inputs = [
            {"response": rf"\boxed{{{text}}}", "response_length": 9, "ground_truth": gold}
            for gold, text in answers.items()
        ]
        assert [score["accuracy"] for score in reward(inputs)] == [worth] * len(answers)
