"""Grading files: order, ids, counts, and errors that name the line."""

import json
import os
import re
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gmpo_vl.cli import main
from gmpo_vl.verify.grade import Verifier, grade_file, summary


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_verdicts_come_in_order_with_ids_and_counts(tmp_path):
    rows = [
        {"gold": 142.0, "response": r"\boxed{142}", "id": "a"},
        {"gold": ["1/2", "50"], "response": r"\boxed{50}", "benchmark": "minerva"},
        {"gold": "B", "response": "none", "id": 7},
        {"gold": "3", "response": r"\boxed{3 or 4}"},
    ]
    counts = grade_file(write(tmp_path / "pairs.jsonl", rows), tmp_path / "out.jsonl")
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [v["id"] for v in out] == ["a", 2, 7, 4]
    assert [v["outcome"] for v in out] == ["equal", "equal", "no_answer", "hedged"]
    assert set(out[0]) == {"id", "correct", "extracted", "gold_type", "outcome", "seconds"}
    assert counts["correct"] == 2
    assert summary(counts).startswith("2 of 4 correct (50.0%)")


def test_a_pair_without_an_id_goes_by_its_line_in_the_file_as_messages_do(tmp_path):
    good, told = json.dumps({"gold": "5", "response": r"\boxed{5}"}), []
    path, out = tmp_path / "pairs.jsonl", tmp_path / "out.jsonl"
    path.write_text(f"\n{good}\n\n{{\n   \n{good}\r\n[]\n{good}")
    grade_file(path, out, tell=told.append)
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [2, 6, 8]
    assert [re.search(r"line (\d+)", text)[1] for text in told] == ["4", "7"]


def test_choices_beside_a_gold_count_and_a_gold_may_be_an_object(tmp_path):
    options = ["1", "2", "3"]
    rows = [
        {"gold": "C", "choices": options, "response": r"\boxed{C. 2}"},
        {"gold": "C", "choices": options, "response": r"\boxed{3}"},
        {"gold": {"gold": "C", "choices": options}, "response": r"\boxed{C. 3}"},
        {"gold": ["3", "C"], "choices": options, "response": r"\boxed{(C)}"},
        {"gold": "5", "choices": [], "response": r"\boxed{5}"},
        {"gold": "C", "choices": "123", "response": r"\boxed{C}"},
        {"gold": "Z", "choices": options, "response": r"\boxed{Z}"},
    ]
    told: list[str] = []
    grade_file(write(tmp_path / "pairs.jsonl", rows), tmp_path / "out.jsonl", tell=told.append)
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [v["correct"] for v in out] == [False, True, True, True, True]
    assert "line 6: its `choices` are" in told[0]
    assert "line 7: the gold 'Z' names none of its 3 choices" in told[1]


def test_columns_that_grading_has_no_use_for_are_left_alone(tmp_path):
    rows = [{"gold": "5", "response": r"\boxed{5}", "correct": False, "label": 0, "meta": {"level": 3}}]
    counts = grade_file(write(tmp_path / "pairs.jsonl", rows), tmp_path / "out.jsonl")
    assert dict(counts) == {"equal": 1, "total": 1, "correct": 1}
    with pytest.raises(ValueError, match="overwrite"):
        grade_file(tmp_path / "pairs.jsonl", tmp_path / "pairs.jsonl")


def test_the_paper_profile_chooses_its_grader_by_benchmark(tmp_path):
    pair = {"gold": "0.50", "response": r"\boxed{\frac{1}{2}}"}
    rows = [{**pair, "benchmark": "geometry3k"}, {**pair, "benchmark": "math"}]
    grade_file(write(tmp_path / "pairs.jsonl", rows), tmp_path / "out.jsonl", Verifier("paper", workers=1))
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert all(isinstance(v["correct"], bool) for v in out)


GOOD = b'{"gold": "5", "response": "\\\\boxed{5}"}'
NO_PAIRS = [
    (b"{", "no JSON"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"gold": ' + b"[" * 100_000 + b"]" * 100_000 + b', "response": "x"}', "nested too deeply"),
    (b'{"gold": ' + b"[" * 500 + b"]" * 500 + b', "response": "x"}', "the gold is"),
    (b'{"gold": ' + b"9" * 5000 + b', "response": "x"}', "too long|the gold"),
    (b'{"gold": "5", "response": "\xff\xfe"}', "not UTF-8"),
    (b'{"gold": "5", "response": "\x00"}', "no JSON"),
    (b'{"gold": "5", "response": "\\ud800"}', "half of a surrogate"),
    (b'{"gold": "\\udfff", "response": "x"}', "half of a surrogate"),
    (b'{"gold": "5", "response": "x", "id": "\\ud800"}', "half of a surrogate"),
    (b'{"gold": "5", "response": "x", "id": NaN}', "its `id` holds NaN"),
    (b'{"gold": "5", "response": "x", "id": [-Infinity]}', "its `id` holds NaN or an infinite number"),
    (b'{"gold": NaN, "response": "x"}', "the gold is nan"),
    (b'{"gold": -Infinity, "response": "x"}', "the gold is -inf"),
    (b'{"gold": [1, 1e999], "response": "x"}', "the gold is"),
    (b'{"gold": true, "response": "x"}', "the gold is True"),
    (b'{"gold": [["5"]], "response": "x"}', "the gold is"),
    (b'{"gold": [], "response": "x"}', "empty"),
    (b'{"gold": "{\\"gold\\": \\"5\\", \\"choices\\": 5}", "response": "x"}', "they are a list of texts"),
    (b'{"gold": "{\\"gold\\": ' + b"[" * 90_000 + b'}", "response": "x"}', "not valid"),
    (b'{"gold": "5"}', "response"),
    (b'{"response": "5"}', "gold"),
    (b'{"gold": "5", "response": 5}', "response"),
    (b'{"gold": "", "response": "x"}', "empty"),
    (b'{"gold": null, "response": "x"}', "the gold is None"),
    (b'{"gold": {"a": 1}, "response": "x"}', "the gold is"),
    (b'["5", "x"]', "a list"),
    (b'"text"', "a str"),
    (b"null", "a NoneType"),
    (b'{"gold": "5", "response": "' + b"x" * (1 << 24) + b'"}', "more than 16,777,216"),
]


@pytest.mark.parametrize(("line", "reason"), NO_PAIRS, ids=range(len(NO_PAIRS)))
def test_a_line_that_is_no_pair_costs_itself_and_is_named(tmp_path, line, reason):
    path, out, told = tmp_path / "pairs.jsonl", tmp_path / "out.jsonl", []
    path.write_bytes(b"\n".join([GOOD, line, GOOD]))
    counts = grade_file(path, out, tell=told.append)
    assert [json.loads(v)["id"] for v in out.read_text().splitlines()] == [1, 3]
    assert counts == {"equal": 2, "total": 2, "correct": 2, "not_graded": 1}
    assert len(told) == 1
    assert re.search(rf"line 2: .*({reason})", told[0])
    assert len(told[0]) < 500
    assert "1 lines were not graded" in summary(counts)


def test_where_no_line_is_a_pair_the_first_is_named_and_an_earlier_result_stays(tmp_path):
    path, out = tmp_path / "pairs.jsonl", tmp_path / "out.jsonl"
    out.write_text("before")
    path.write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"line 1: no JSON"):
        grade_file(path, out, tell=lambda _: None)
    assert out.read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.jsonl", "pairs.jsonl"]


def test_many_bad_lines_are_counted_and_not_all_told(tmp_path):
    path, told = tmp_path / "pairs.jsonl", []
    path.write_bytes(b"\n".join([GOOD, *[b"{"] * 1000]))
    assert grade_file(path, tmp_path / "out.jsonl", tell=told.append)["not_graded"] == 1000
    assert len(told) == 21
    assert "980 more" in told[-1]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + GOOD + b"\n" + GOOD,
        GOOD + b"\r\n" + GOOD + b"\r\n",
        GOOD + b"\r" + GOOD + b"\r",
        GOOD + b"\n\n  \n" + GOOD,
        (GOOD + b"\n").replace(b"}", b', "note": "\xe2\x80\xa8 \\ud800", "score": NaN}') * 2,
    ],
    ids=["byte order mark", "CRLF", "CR", "blank lines", "in keys that are not read"],
)
def test_marks_and_line_ends_cost_nothing(tmp_path, content):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(content.replace(b'{5, "note": "\xe2\x80\xa8 \\ud800", "score": NaN}', b"{5}"))
    assert grade_file(path, tmp_path / "out.jsonl") == {"equal": 2, "total": 2, "correct": 2}


@pytest.mark.parametrize("content", [b"", b"\n  \n", b"\xef\xbb\xbf"], ids=["empty", "blank", "mark"])
def test_an_empty_file_has_no_pairs_and_is_told(tmp_path, content):
    (tmp_path / "pairs.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=r"pairs\.jsonl is empty: no pair"):
        grade_file(tmp_path / "pairs.jsonl", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_pairs_come_from_a_pipe_as_well(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = Thread(target=(tmp_path / "pipe").write_bytes, args=[GOOD + b"\n" + GOOD])
    writer.start()
    assert grade_file(tmp_path / "pipe", tmp_path / "out.jsonl")["correct"] == 2
    writer.join()


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("gbk", "GBK"),
        ("utf-16", "UTF-16"),
        ("utf-16-be", "UTF-16-BE"),
        ("utf-32", "UTF-32"),
        ("cp1252", "1252"),
    ],
)
def test_a_file_in_another_encoding_is_read_and_said_once(tmp_path, encoding, name):
    words = ["caf\u00e9", "gar\u00e7on"] if encoding == "cp1252" else ["\u7ea2\u8272", "\u5706\u5f62"]
    rows = [{"gold": word, "response": rf"\boxed{{{word}}}", "id": word} for word in words * 3]
    content = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)
    (tmp_path / "pairs.jsonl").write_bytes(content.encode(encoding))
    told = []
    counts = grade_file(tmp_path / "pairs.jsonl", tmp_path / "out.jsonl", tell=told.append)
    assert counts == {"equal": 6, "total": 6, "correct": 6}
    assert len(told) == 1
    assert f"read as {name}" in told[0].replace("Windows-", "")
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == words * 3


def test_a_file_that_breaks_its_own_encoding_is_refused_once(tmp_path):
    content = '{"gold": "\u7ea2", "response": "\u7ea2"}\n'.encode("utf-16") + b"\x00"
    (tmp_path / "pairs.jsonl").write_bytes(content)
    told = []
    with pytest.raises(ValueError, match=r"pairs\.jsonl: it seems to be UTF-16.*save it as UTF-8"):
        grade_file(tmp_path / "pairs.jsonl", tmp_path / "out.jsonl", tell=told.append)
    assert told == []
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("name", ["pairs.json", "indent.json", "pairs.csv", "pairs.parquet", "others.jsonl"])
def test_a_file_of_another_form_is_refused_once_with_the_form_that_is_read(tmp_path, capsys, name):
    rows = [{"gold": "5", "response": r"\boxed{5}"}] * 3
    path = tmp_path / name
    if name == "pairs.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name == "others.jsonl":
        write(path, [{"answer": row["gold"], "output": row["response"]} for row in rows])
    elif name == "pairs.csv":
        path.write_text("gold,response\n" + "5,\\boxed{5}\n" * 3)
    else:
        path.write_text(json.dumps(rows, indent=1 if name == "indent.json" else None))
    assert main(["grade", str(path)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert name in said
    assert '{"gold": "5", "response": "It is' in said


def test_what_is_no_file_is_told_with_its_name(tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_bytes(GOOD)
    os.mkfifo(tmp_path / "pipe")
    for out, said in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "is a pipe or a device"),
        ("/dev/null", "is a pipe or a device"),
        ("/dev/stdout", "is a pipe or a device"),
        (tmp_path / "no" / "out.jsonl", f"there is no folder {tmp_path / 'no'}"),
        (pairs / "out.jsonl", "there is no folder"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            grade_file(pairs, out)
    for place, said in ((tmp_path, "is a folder"), (tmp_path / "none", "there is no file")):
        with pytest.raises(ValueError, match=said):
            grade_file(place, tmp_path / "out.jsonl")
    assert {p.name for p in tmp_path.iterdir()} == {"pairs.jsonl", "pipe"}


def test_a_link_to_the_verdicts_stays_a_link(tmp_path):
    (tmp_path / "pairs.jsonl").write_bytes(GOOD)
    (tmp_path / "link").symlink_to(tmp_path / "out.jsonl")
    grade_file(tmp_path / "pairs.jsonl", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "out.jsonl").read_text())["correct"]


def test_fewer_than_no_workers_are_refused(tmp_path, capsys):
    pairs = write(tmp_path / "pairs.jsonl", [{"gold": "1", "response": "1"}])
    assert main(["grade", pairs, "--out", str(tmp_path / "out.jsonl"), "--workers", "-1"]) == 2
    assert "workers=-1" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


def test_without_a_file_verdicts_are_printed_and_nothing_of_a_response_moves_the_cursor(tmp_path, capsys):
    rows = [
        {"id": "q1", "gold": "42", "response": "so \\boxed{42}"},
        {"id": "q2", "gold": ["7", "8"], "response": "so \\boxed{\x1b[2J9\n}"},
        {"gold": "3", "response": "I do not know"},
    ]
    assert main(["grade", str(write(tmp_path / "pairs.jsonl", rows))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["right", "equal", "q1", "42"],
        ["wrong", lines[1].split()[1], "q2", "[2J9", "(gold", "7", "or", "8)"],
        ["wrong", "no", "answer", "3", "-", "(gold", "3)"],
    ]
    assert lines[3].startswith("1 of 3 correct (33.3%)")
    assert "\x1b" not in "".join(lines)


def test_answers_in_the_other_place_are_told_and_read_where_asked(tmp_path, capsys):
    rows = [{"gold": gold, "response": "<answer>42</answer>"} for gold in ("42", "1")]
    path = str(write(tmp_path / "pairs.jsonl", rows))
    assert main(["grade", path]) == 0
    said = capsys.readouterr()
    assert "0 of 2 correct" in said.out
    assert "--answer-in tag" in said.err
    assert main(["grade", path, "--answer-in", "tag"]) == 0
    said = capsys.readouterr()
    assert "1 of 2 correct" in said.out
    assert said.err == ""


def test_pairs_are_graded_as_a_reward_pays(tmp_path, capsys):
    rows = [
        {"gold": "100", "response": r"\boxed{101}"},
        {"gold": 7, "response": r"\boxed{8}"},
        {"gold": ["red", "crimson"], "response": r"\boxed{Crimson}"},
    ]
    pairs, out = write(tmp_path / "pairs.jsonl", rows), tmp_path / "out.jsonl"
    mine = tmp_path / "mine.py"
    mine.write_text(
        "def near(inputs, by=0):\n"
        "    def pays(r):\n"
        "        found = ''.join(filter(str.isdigit, r['response'])) or '0'\n"
        "        gold = r['ground_truth']\n"
        "        return float(gold.isdigit() and abs(int(found) - int(gold)) <= by)\n"
        "    return [{'overall': pays(r), 'length': r['response_length']} for r in inputs]\n"
    )
    options = ["--reward-options", "{by: 1}", "--out", str(out)]
    assert main(["grade", pairs, "--reward", f"{mine}:near", *options]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["correct"] for line in lines] == [True, True, False]
    assert [line["reward"] for line in lines] == [
        {"overall": paid, "length": float(len(row["response"]))} for paid, row in zip([1.0, 1.0, 0.0], rows)
    ]
    assert main(["grade", pairs, "--reward", "text"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"right .*Crimson.*  overall 1", said)
    assert "1 of 3 correct" in said
    mine.write_text("REWARD_INPUTS = ('images',)\n" + mine.read_text())
    assert main(["grade", pairs, "--reward", f"{mine}:near"]) == 2
    assert "asks for images of the row" in capsys.readouterr().err
    assert main(["grade", pairs, "--reward", "text", "--answer-in", "tag"]) == 2
    assert "--reward-options" in capsys.readouterr().err
