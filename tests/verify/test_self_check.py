"""Golds against themselves: a row that cannot be read, or whose gold verifies nothing, costs itself and is
named.
"""

import json
import re

import pytest

from gmpo_vl.cli import main
from gmpo_vl.verify import parse_gold, verify
from gmpo_vl.verify.natural_forms import unreached
from gmpo_vl.verify.self_check import Failure, narrow_golds, self_check, summary

BAD = [  # a line, and what is said of it
    ("{", "not JSON"),
    ("[" * 100_000, "not JSON: .*recursion"),
    ("[]", "not an object .* of type list"),
    ("5", "of type int"),
    ("null", "of type NoneType"),
    ('"answer"', "of type str"),
    ('["answer"]', "of type list"),
    ("{}", "no column `answer` or `gold`"),
    ('{"Answer": "5"}', "no column .* it has"),
    ('{"answer": {"a": 1}}', "the gold is {'a': 1}; it is a text"),
    ('{"answer": {}}', "the gold is {}; it is a text"),
    ('{"answer": true}', "the gold is True"),
    ('{"answer": [true]}', "the gold is"),
    ('{"answer": [["5"]]}', "the gold is"),
    ('{"answer": null}', "the gold is None"),
    ('{"answer": NaN}', "the gold is nan"),
    ('{"answer": ""}', "empty"),
    ('{"answer": []}', "empty"),
    ('{"answer": "\\ud800"}', "half of a surrogate pair"),
    ('{"answer": "{\\"gold\\": 5, \\"choices\\": 5}"}', "they are a list of texts"),
    ('{"answer": "{\\"gold\\": 5, \\"type\\": {}}"}', "type="),
    ('{"answer": "{\\"gold\\": 5"}', "not valid"),
    *(
        (json.dumps({"answer": f'{{"gold": {gold}}}'}), "is no text, number or list of them")
        for gold in ("null", "true", '{"a": 1}', "[[1]]", "[1, null]", '["1", {}]')
    ),
    (json.dumps({"answer": '{"type": "gold"}'}), "has no key gold"),
    (r'{"answer": "\\frac{1"}', "truncated"),
]


@pytest.mark.parametrize(("line", "said"), BAD, ids=range(len(BAD)))
def test_a_bad_line_costs_itself_and_is_named(tmp_path, line, said):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'\ufeff{{"answer": "5", "problem": "\u2028"}}\n\n{line}\n{{"gold": "7"}}\n')
    (failure,) = self_check(path)
    assert failure.where == f"{path}, line 3"
    assert len(str(failure)) < 500
    assert re.search(said, str(failure))


def test_rows_of_a_json_file_cost_themselves_as_well(tmp_path):
    path = tmp_path / "rows.json"
    rows = ["5", "{}", '{"answer": {"a": 1}}', '{"answer": "5"}', '"x"']
    for content in (f"[{', '.join(rows)}]", '{"answer": 5}\n' + "\n".join(rows)):
        path.write_text(content)
        assert len(self_check(path)) == 4
    path.write_text(f"[{', '.join(rows)}]")
    assert [f.where for f in self_check(path)] == [f"{path}, row {i}" for i in (0, 1, 2, 4)]


@pytest.mark.parametrize(
    "content", ["5", "{}", '"answer"', "null", '{"a": 5}', "[]", "[5]", '[{"answer": 5}', "", "\n"]
)
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_a_file_without_a_gold_is_told_with_its_name(tmp_path, name, content, capsys):
    (tmp_path / name).write_text(content)
    assert main(["grade", "--self-check", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"gmpo-vl: {tmp_path / name}")
    assert len(said.splitlines()) == 1


def test_what_fails_is_counted_and_printed(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"answer": "5"}\n{"answer": ""}\n7\n{"answer": ["1", "2"]}\n')
    assert main(["grade", "--self-check", str(path)]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"{path}, line 2: '': the gold [''] is empty")
    assert told[1].startswith(f"{path}, line 3: not an object with columns")
    assert told[1].endswith("Mend it, or delete it")
    assert told[2] == "1 golds do not verify against themselves; 1 rows could not be read"
    assert summary([Failure("a, line 1", "5", "different")]) == "1 golds do not verify against themselves"


def test_saved_data_sets_and_parquet_name_split_and_row(tmp_path):
    datasets = pytest.importorskip("datasets")
    good, bad = datasets.Dataset.from_list([{"answer": "5"}]), datasets.Dataset.from_list([{"answer": ""}])
    good.to_parquet(tmp_path / "good.parquet")
    bad.to_parquet(tmp_path / "bad.parquet")
    datasets.DatasetDict({"train": good, "test": bad}).save_to_disk(tmp_path / "several")
    bad.save_to_disk(tmp_path / "one")
    assert self_check(tmp_path / "good.parquet") == []
    for name, where in (("bad.parquet", "bad.parquet"), ("several", "several/test"), ("one", "one")):
        assert [f.where for f in self_check(tmp_path / name)] == [f"{tmp_path / where}, row 0"]
    bad.rename_column("answer", "x").to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"x\.parquet has no column"):
        self_check(tmp_path / "x.parquet")


def test_verl_s_rows_have_their_gold_inside(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    golds = [{"style": "rule", "ground_truth": gold} for gold in ("5", "\\frac{", "")]
    parquet.write_table(
        pa.table({"prompt": ["a", "b", "c"], "reward_model": golds}), tmp_path / "verl.parquet"
    )
    assert [f.where.rpartition(", ")[2] for f in self_check(tmp_path / "verl.parquet")] == ["row 1", "row 2"]
    several = [{"ground_truth": gold} for gold in ("['1', '2']", '["1", "2"]', "['1' '\\\\frac{']")]
    parquet.write_table(pa.table({"reward_model": several}), tmp_path / "several.parquet")
    assert [f.gold for f in self_check(tmp_path / "several.parquet")] == ["\\frac{"]
    for gold in ({"target": 24, "numbers": [8, 3]}, True, None, ["5", None]):
        parquet.write_table(
            pa.table({"reward_model": [{"ground_truth": gold}]}), tmp_path / "no_gold.parquet"
        )
        [failure] = self_check(tmp_path / "no_gold.parquet")
        assert failure.reason.startswith(f"the gold is {gold!r}; it is a text, a number or a list")
    other = pa.table({"reward_model": [{"style": "rule"}]})
    parquet.write_table(other, tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="its `reward_model` has no `ground_truth`"):
        self_check(tmp_path / "other.parquet")


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "5", "{}", json.dumps({"splits": 5}), json.dumps({"splits": ["../x"]}), "[" * 100_000],
)
def test_a_damaged_list_of_splits_is_told(tmp_path, content):
    (tmp_path / "dataset_dict.json").write_text(content)
    with pytest.raises(ValueError, match=r"dataset_dict\.json is damaged: .*save the data set again"):
        self_check(tmp_path)


def test_what_is_no_data_set_is_told(tmp_path):
    for name, content, said in (
        ("bad.parquet", "PAR1", "cannot be read as parquet"),
        ("empty.parquet", "", "0 bytes"),
        ("a.csv", "question\n5\n", "no column `answer` or `gold`; it has ..question"),
        ("a.md", "5", "no known format"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=rf"{name}.* {said}"):
            self_check(tmp_path / name)
    for name in ("none.parquet", "none.jsonl", "owner/name"):
        with pytest.raises(ValueError, match="is no data set: give a"):
            self_check(tmp_path / name)


def test_tables_and_folders_of_files_are_read_with_all_their_splits(tmp_path):
    (tmp_path / "train.csv").write_text('problem,answer\n"a\nb",5\nc,{}\nd\ne,\n')
    (tmp_path / "test.jsonl").write_text('\n{"answer": "5"}\n{"answer": ""}\n')
    found = [(failure.where, failure.gold) for failure in self_check(tmp_path)]
    table = tmp_path / "train.csv"
    assert found == [
        (f"{table}, row 2", None),
        (f"{table}, row 3", "None"),
        (f"{tmp_path / 'test.jsonl'}, line 3", ""),
    ]
    assert len(self_check(table)) == 2


def test_golds_that_only_some_forms_reach_are_told_and_fail_nothing(tmp_path, capsys):
    golds = ["12", "4.4 m", "Area = 9.4", "217 °T", "(3, 4)", "x \\approx 0.5 \\text{ furlongs}"]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"answer": gold}) + "\n" for gold in golds))
    narrow = {}
    for gold in golds:
        if forms := unreached(parse_gold(gold), lambda text, g=gold: verify(g, f"\\boxed{{{text}}}").correct):
            narrow[gold] = forms
    found = narrow_golds(path)
    assert [failure.gold for failure in found] == list(narrow)
    assert all(narrow[failure.gold][0].name in failure.reason for failure in found)
    assert main(["grade", "--self-check", str(path)]) == 0
    told = capsys.readouterr().out
    assert all(f"line {1 + golds.index(gold)}: {gold!r}: not reached by" in told for gold in narrow)
    assert ("a warning" in told) == bool(narrow)
