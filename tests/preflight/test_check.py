"""`data check` finds every planted fault, survives all of them, and what it advises is true."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import encoded, picture, planted, write_planted

from gmpo_vl.cli import main
from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.writing import write_parquet
from gmpo_vl.models.tiny import save_tiny

BASE = """
engine: local
data: {train_files: TRAIN, val_files: VAL, max_prompt_length: 128, max_response_length: 6,
       rollout_batch_size: 4, min_pixels: null, max_pixels: null, on_bad_row: skip}
worker:
  actor: {global_batch_size: 2, fsdp: {torch_dtype: fp32, mp_param_dtype: fp32}, model: {model_path: MODEL}}
  rollout: {n: 2}
  reward: {reward_function: REWARD}
trainer: {max_steps: 1, logger: [file], save_checkpoint_path: RUN}
"""


BOXED = "data.format_prompt=boxed"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def config(tmp_path, model):
    """Write a configuration for these sources; returns its path."""

    def make(train, val=None, reward="accuracy"):
        text = BASE.replace("TRAIN", str(train)).replace("VAL", str(val or "null"))
        text = (
            text.replace("MODEL", str(model)).replace("REWARD", reward).replace("RUN", str(tmp_path / "run"))
        )
        (tmp_path / "run.yaml").write_text(text)
        return str(tmp_path / "run.yaml")

    return make


def check(*arguments, out) -> tuple[int, dict, list[dict]]:
    """(exit code, check.json, the lines of rows.jsonl)"""
    code = main(["data", "check", *map(str, arguments), "--out", str(out)])
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    return code, json.loads((out / "check.json").read_text()), rows


def reasons(rows: list[dict]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["id"], set()).add(row["reason"])
    return found


@pytest.fixture
def planted_files(tmp_path):
    """train with every fault and rows that come twice; validation that shares a row and a picture with it."""
    rows = planted(for_qwen=True)
    good = rows["good"][0]
    rows["again"] = (good, None, {"duplicate"})
    rows["against"] = ({**good, "answer": "4"}, None, {"contradiction"})
    rows["good"] = (good, None, {"leak_problem"})
    for name in ("again", "against"):
        rows[name][2].add("leak_problem")
    rows["two images"][2].add("leak_picture")
    val = [
        {**good, "id": "v1"},
        {"images": [encoded(picture(500))], "problem": "<image>Find y.", "answer": "5", "id": "v2"},
    ]
    write_parquet(tmp_path / "val.parquet", val, {"id": "string"})
    return rows, tmp_path / "val.parquet"


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_every_planted_fault_is_found_with_row_and_reason(kind, planted_files, config, tmp_path, capsys):
    rows, val = planted_files
    train = write_planted(rows, kind, tmp_path)
    code, said, lines = check(config(train, val), BOXED, out=tmp_path / "check")
    assert code == 1
    expected = {
        name: ({reason} if reason else set()) | also
        for name, (_, reason, also) in rows.items()
        if reason or also
    }
    if kind == "jsonl":
        expected["empty image"] = {"image_unreadable"}  # here it is an empty file
    assert reasons(lines) == expected
    names = list(rows)
    assert all(line["file"] == train and names[line["row"]] == line["id"] for line in lines)
    assert said["splits"]["train"]["rows"] == len(rows)
    assert said["splits"]["train"]["rows_with_errors"] == sum(1 for _, reason, _ in rows.values() if reason)
    page = (tmp_path / "check/report.html").read_text()
    assert all(reason.replace("_", " ") in page for found in expected.values() for reason in found)
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    out = capsys.readouterr().out
    assert "error   image_unreadable" in out
    assert said["splits"]["train"]["lengths"]["without_picture"] == 1  # "text only"
    assert "\n  rows without a picture: 1\n" in out


def test_a_run_that_skips_bad_rows_trains_on_the_planted_set(planted_files, config, tmp_path, capsys):
    rows, val = planted_files
    assert main(["train", config(write_planted(rows, "parquet", tmp_path), val)]) == 0
    refused = [
        json.loads(line)["id"] for line in (tmp_path / "run/train.bad_rows.jsonl").read_text().splitlines()
    ]
    assert set(refused) == {name for name, (_, reason, _) in rows.items() if reason}


def test_a_cleaned_copy_holds_the_rest_and_says_what_it_left_out(planted_files, config, tmp_path):
    rows, val = planted_files
    train = write_planted(rows, "parquet", tmp_path)
    code, _, _ = check(
        config(train, val), BOXED, "--clean", tmp_path / "clean", "--drop", "duplicate", "contradiction",
        "leak_problem", "gold_not_verified", out=tmp_path / "check",
    )  # fmt: skip
    assert code == 1
    left_out = {"duplicate", "contradiction", "leak_problem", "gold_not_verified"}
    kept = [name for name, (_, reason, also) in rows.items() if not reason and not also & left_out]
    clean = load_examples(str(tmp_path / "clean/train.parquet"), check_images=True)
    assert [e.id for e in clean] == kept
    assert list(clean[kept.index("two images")].images) == rows["two images"][0]["images"]
    dropped = [json.loads(line) for line in (tmp_path / "clean/dropped.jsonl").read_text().splitlines()]
    assert [d["id"] for d in dropped] == [name for name in rows if name not in kept]
    assert {d["id"]: d["reason"] for d in dropped}["truncated"] == "image_unreadable"
    code, said, _ = check(config(tmp_path / "clean/train.parquet"), out=tmp_path / "again")
    assert (code, said["errors"]) == (0, 0)


def test_a_clean_copy_never_takes_the_place_of_the_data(config, tmp_path, capsys):
    rows = [{"images": [], "problem": problem, "answer": "1"} for problem in ("x?", "")]
    write_parquet(tmp_path / "data/train.parquet", rows)
    before = (tmp_path / "data/train.parquet").read_bytes()
    run = config(tmp_path / "data/train.parquet")
    command = ["data", "check", run, "--out", str(tmp_path / "check"), "--clean"]
    assert main([*command, str(tmp_path / "data")]) == 2
    assert "train.parquet is read here and would be overwritten" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other/train.parquet").write_bytes(b"theirs")
    assert main([*command, str(tmp_path / "other")]) == 2
    assert "without a dropped.jsonl beside it" in capsys.readouterr().err
    assert not (tmp_path / "check").exists()
    for _ in range(2):  # a copy of ours is written again
        assert main([*command, str(tmp_path / "clean")]) == 1
    assert pq.read_metadata(tmp_path / "clean/train.parquet").num_rows == 1
    assert (tmp_path / "data/train.parquet").read_bytes() == before
    assert (tmp_path / "other/train.parquet").read_bytes() == b"theirs"


def test_further_columns_come_along_in_the_copy(config, tmp_path):
    rows = [
        {
            "problem": f"x{i}?",
            "answer": "1",
            "id": i,
            "level": i,
            "score": i / 2 if i else 1,
            "ok": True,
            "kind": "a",
        }
        for i in range(4)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"problem": "", "answer": "1"}])))
    check(config(tmp_path / "a.jsonl"), "--clean", tmp_path / "clean", out=tmp_path / "check")
    written = pq.read_table(tmp_path / "clean/train.parquet").to_pylist()
    assert [{k: v for k, v in row.items() if k != "images"} for row in written] == [
        {**row, "id": str(row["id"])} for row in rows
    ]


# Ends its process as a machine without memory would.
DEADLY = """
import os, signal
def compute_score(reward_inputs):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Rows of pictures of all sizes."""
    rows = [
        {
            "images": [encoded(picture(i).resize((56 + 28 * (i % 9), 56 + 28 * (i % 5))))],
            "problem": f"<image>Find {'x ' * (i % 7)}.",
            "answer": str(i),
        }
        for i in range(100)
    ]
    path = tmp_path_factory.mktemp("many") / "a.parquet"
    write_parquet(path, rows)
    return path


def test_workers_find_what_one_process_finds(many, config, tmp_path):
    found = [
        check(config(many), "data.max_prompt_length=40", "--workers", n, out=tmp_path / str(n))
        for n in (0, 2)
    ]
    assert found[0][2] == found[1][2] != []
    for _, said, _ in found:
        del said["seconds"], said["rows_per_second"]
    assert found[0][1] == found[1][1]


def test_a_worker_that_dies_is_told_with_its_rows(many, config, tmp_path, capsys):
    (tmp_path / "deadly.py").write_text(DEADLY)
    path = config(many, reward=f"{tmp_path / 'deadly.py'}:compute_score")
    assert main(["data", "check", path, "--workers", "2", "--out", str(tmp_path / "check")]) == 2
    assert "a worker died near rows" in capsys.readouterr().err


def test_the_limits_it_names_let_every_row_in_and_no_smaller_ones_do(many, config, tmp_path):
    path = config(many)
    code, said, rows = check(path, "data.max_prompt_length=40", out=tmp_path / "a")
    lengths = said["splits"]["train"]["lengths"]
    assert code == 1
    assert lengths["too_long"] == sum(row["reason"] == "prompt_too_long" for row in rows) > 0
    assert sum(n for *_, n in lengths["histogram"]) == 100
    assert sum(n for low, _, n in lengths["histogram"] if low > 40) == lengths["too_long"]
    longest, pixels = lengths["fitting_max_prompt_length"], lengths["fitting_max_pixels"]
    for override, too_long in (
        ([f"data.max_prompt_length={longest}"], False),
        ([f"data.max_prompt_length={longest - 1}"], True),
        (["data.max_prompt_length=40", f"data.max_pixels={pixels}"], False),
        (["data.max_prompt_length=40", f"data.max_pixels={pixels + 28 * 28}"], True),
    ):
        code, again, _ = check(path, *override, out=tmp_path / "b")
        assert (again["splits"]["train"]["lengths"]["too_long"] > 0) == too_long == bool(code)


def test_a_length_that_no_resizing_reaches_is_not_promised(many, config, tmp_path):
    _, said, _ = check(config(many), "data.max_prompt_length=8", out=tmp_path / "a")
    assert said["splits"]["train"]["lengths"]["fitting_max_pixels"] is None


REWARDS = {
    "zero": "return [{'overall': 0.0} for _ in reward_inputs]",
    "raises": "return [{'overall': 1 / (len(r['ground_truth']) - 2)} for r in reward_inputs]",
    "own form": "return [{'overall': float(r['response'] == r['ground_truth'])} for r in reward_inputs]",
}


@pytest.mark.parametrize(
    ("kind", "found"),
    [("zero", {"gold_not_verified": 100}), ("raises", {"gold_refused": 90, "gold_not_verified": 10})],
)
def test_a_reward_that_pays_no_right_answer_or_fails_is_told_row_by_row(kind, found, many, config, tmp_path):
    (tmp_path / "reward.py").write_text(f"def compute_score(reward_inputs):\n    {REWARDS[kind]}\n")
    code, said, _ = check(config(many, reward=f"{tmp_path / 'reward.py'}:compute_score"), out=tmp_path / "a")
    assert {reason: v["count"] for reason, v in said["reasons"].items()} == found
    assert code == (1 if "gold_refused" in found else 0)


def test_a_reward_of_the_bare_gold_is_satisfied_by_it_and_by_no_other_form(many, config, tmp_path):
    (tmp_path / "reward.py").write_text(f"def compute_score(reward_inputs):\n    {REWARDS['own form']}\n")
    _, said, _ = check(config(many, reward=f"{tmp_path / 'reward.py'}:compute_score"), out=tmp_path / "a")
    assert said["reasons"] == {"gold_unreachable": {"level": "warning", "count": 100}}


def test_countdown_puzzles_are_solved(config, tmp_path):
    from gmpo_vl.data.answers import encode_answer

    puzzles = [(98, [44, 19, 35]), (24, [3, 3, 8, 8]), (1000, [1, 2, 3]), (7, [1] * 9)]
    rows = [
        {"problem": f"{t} of {n}", "answer": encode_answer(t, type="countdown", choices=list(map(str, n)))}
        for t, n in puzzles
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    _, said, lines = check(
        config(tmp_path / "a.jsonl", reward="countdown"), "data.format_prompt=r1v", out=tmp_path / "c"
    )
    assert [(line["row"], line["reason"]) for line in lines] == [(2, "gold_not_verified")]
    assert said["splits"]["train"]["answer_types"] == {"countdown": 4}


def test_the_exit_code_follows_what_was_asked(config, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"problem": "x?", "answer": "1"}\n' * 2)
    path = config(tmp_path / "a.jsonl")
    for level, code in (("error", 0), ("warning", 1), ("never", 0)):
        assert check(path, "--fail-on", level, out=tmp_path / "c")[0] == code  # a duplicate is a warning
    assert main(["data", "check", path, "data.train_files=gone.parquet"]) == 2
    assert main(["data", "check", path, "--drop", "duplicate"]) == 2
    assert main(["data", "check", path, "--clean", str(tmp_path / "x"), "--drop", "image_tags"]) == 2


@settings(max_examples=50)
@given(st.lists(st.integers(0, 6), max_size=12), st.lists(st.integers(0, 6), max_size=12))
def test_repeats_and_common_values_are_those_a_plain_loop_finds(mine, other):
    from gmpo_vl.preflight.survey import _common, _repeats

    repeats = [(i, mine.index(v)) for i, v in enumerate(mine) if mine.index(v) < i]
    assert _repeats(np.array(mine, dtype=np.uint64), np.arange(len(mine))) == repeats
    common = [(i, other.index(v)) for i, v in enumerate(mine) if v in other]
    assert _common(mine, range(len(mine)), other, range(len(other))) == common


def test_what_it_advises_about_missing_tags_puts_them_in(config, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"images": [encoded(picture(i))], "problem": f"Find x{i}.", "answer": "5"} for i in range(3)]
    write_parquet("mine.parquet", rows)
    assert main(["data", "check", config("mine.parquet"), "--out", "check"]) == 1
    page = (tmp_path / "check/report.html").read_text()
    new, convert = "gmpo-vl data new NAME --source FILE", "gmpo-vl data convert NAME.yaml FOLDER"
    assert new in page
    assert convert in page
    assert main([*new.replace("NAME", "m").replace("FILE", "mine.parquet").split()[1:]]) == 0
    (tmp_path / "m.yaml").write_text((tmp_path / "m.yaml").read_text().replace("validation: 0.05", ""))
    assert main(convert.replace("NAME", "m").replace("FOLDER", "out").split()[1:]) == 0
    assert main(["data", "check", config("out/train.parquet"), "--out", "check"]) == 0


def test_every_reason_a_row_can_be_refused_for_has_its_advice():
    from pathlib import Path

    from gmpo_vl.data import rows
    from gmpo_vl.preflight.findings import ADVICE

    listed = re.findall(
        r"\b[a-z]+_[a-z]+\b", Path(rows.__file__).read_text().split('"""')[1].split("Reasons a row")[1]
    )
    assert {reason for reason in listed if reason != "prompt_too_long"} - set(ADVICE) == set()
    assert len(listed) > 15
