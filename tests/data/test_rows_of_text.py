"""Rows of JSON and of tables as text: read as they were written, and a bad one costs itself alone."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.formats import json_rows

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text('a"\\\\[]{},: é\n', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('a"]', max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def test_a_bad_line_of_a_table_costs_that_row(tmp_path):
    lines = [b"problem,answer", b"x?,1", b"x?", b"", b"caf\xe9?,2", b"x?," + b"9" * 300_000, b"x?,4"]
    lines.append("Größe?,5".encode())
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines))
    examples = load_examples(str(tmp_path / "a.csv"), on_bad_row="skip")
    assert [e.answer for e in examples] == ["1", "4", "5"]
    assert examples.faults.counts() == {"unreadable_row": 1, "bad_text": 1, "answer_length": 1}


@settings(max_examples=60)
@given(
    rows=st.lists(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=4), max_size=8),
    indent=st.sampled_from([None, 1]),
)
def test_an_array_of_any_objects_is_read_as_json_reads_it(rows, indent, tmp_path_factory):
    path = tmp_path_factory.mktemp("json") / "a.json"
    for escaped in (True, False):
        path.write_text(json.dumps(rows, indent=indent, ensure_ascii=escaped), encoding="utf-8")
        read = json_rows(path)
        assert [read[i] for i in range(len(read))] == list(read.scan([])) == rows


def test_a_long_array_is_cut_anywhere_by_the_reader(tmp_path, monkeypatch):
    rows = [{"text": '\\" ] } , [' * i, "n": [i, {"x": "]"}]} for i in range(40)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    for chunk in (1, 2, 3, 7, 64):
        monkeypatch.setattr("gmpo_vl.data.formats.json._CHUNK", chunk)
        assert list(json_rows(tmp_path / "a.json").scan([])) == rows


def test_one_bad_element_of_an_array_costs_that_row(tmp_path):
    (tmp_path / "a.json").write_text(
        '[{"problem": "x?", "answer": 1}, {"problem": oops}, 7, {"problem": "y?", "answer": 2}]'
    )
    examples = load_examples(str(tmp_path / "a.json"), on_bad_row="skip")
    assert [e.id for e in examples] == ["a:0", "a:3"]
    assert examples.faults.counts() == {"unreadable_row": 2}


def test_a_broken_line_costs_one_row(rows, tmp_path):
    good = json.dumps({"problem": "x?", "answer": "1"}).encode()
    lines = [good, b'{"problem": "x?", "answ', b"\xff\xfe", b"[1, 2]", b"null", b"[" * 100_000, b"", good]
    lines += [
        b'{"problem": "x?", "answer": 2}',
        b'{"problem": "x?", "answer": ["3", 4]}',
        b'{"problem": "x?", "answer": NaN}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    examples = load_examples(str(tmp_path / "a.jsonl"), on_bad_row="skip")
    assert [e.id for e in examples] == ["a:0", "a:6", "a:7", "a:8"]
    assert examples.faults.counts() == {"unreadable_row": 5, "empty_answer": 1}
    assert [fault.row for fault in examples.faults] == [1, 2, 3, 4, 5, 9]
