"""JSON lines and objects as a run's folder holds them: torn, edited, damaged."""

import json
import math
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from gmpo_vl.data.writing import parquet_writer
from gmpo_vl.runs import EvaluationFolder, Run, StudyFolder
from gmpo_vl.samples import store_image
from gmpo_vl.storage.files import (
    HALF_WRITTEN,
    append_jsonl,
    append_once,
    read_jsonl,
    read_object,
    whole_file,
    write_text,
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b'{"n": 1}\n'),
        (b'{"a": 1}\n', b'{"a": 1}\n{"n": 1}\n'),
        (b'{"a": 1}\n{"b":', b'{"a": 1}\n{"n": 1}\n'),
        (b'{"a": 1}\n{"b": 2}', b'{"a": 1}\n{"b": 2}\n{"n": 1}\n'),  # an editor left the last newline out
        (b"\0\0\0", b'{"n": 1}\n'),
    ],
)
def test_a_line_is_appended_to_whole_lines(tmp_path, before, after):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(before)
    append_jsonl(path, [{"n": 1}])
    assert path.read_bytes() == after


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b'{"a": 1}\n{"a": 2}\n', [1, 2]),
        (b'{"a": 1}\n{"a": 2}', [1, 2]),
        (b'{"a": 1}\n{"a": 2', [1]),
        (b'{"a": 1}\n\0\0\0\0', [1]),
        (b'{"a": 1}\n\xff', [1]),
        (b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": 2}\r\n', [1, 2]),
        (b"", []),
    ],
)
def test_only_a_last_line_may_be_torn(tmp_path, content, rows):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(content)
    assert [row["a"] for row in read_jsonl(path)] == rows


@pytest.mark.parametrize(
    "line",
    [b"junk", b"[1]", b"null", b"5", b"\xff\xfe", b"\0\0", b"[" * 100_000,
     b'{"a": 1} {"a": 2}', b'{"a": 9' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_any_other_line_is_named(tmp_path, line):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    with pytest.raises(ValueError, match=r"lines\.jsonl, line 2: not .*Mend the line, or delete it"):
        list(read_jsonl(path))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b"{}"])
def test_an_object_that_is_none_names_its_file(tmp_path, content):
    run, evaluation = StudyFolder(tmp_path), EvaluationFolder(tmp_path)
    run.run("a").folder.mkdir(parents=True)
    for path, read in (
        (run.plan_file, run.plan),
        (run.chosen_file, run.chosen),
        (run.run("a").folder / "ended.json", lambda: run.ending("a")),
        (evaluation.plan_file, evaluation.plan),
        (evaluation.results_file, evaluation.results),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path.name} is damaged: .*To go on, "):
            read()


def test_half_a_surrogate_pair_is_written_as_json_escapes_it(tmp_path):
    append_jsonl(tmp_path / "a.jsonl", [{"text": "x\ud800"}])
    assert list(read_jsonl(tmp_path / "a.jsonl")) == [{"text": "x\ud800"}]
    write_text(tmp_path / "a.json", json.dumps({"text": "\udfff"}, ensure_ascii=False))
    assert read_object(tmp_path / "a.json") == {"text": "\udfff"}


def whole(folder: Path) -> None:
    with whole_file(folder / "a.bin") as partial:
        partial.write_bytes(b"new")


def text(folder: Path) -> None:
    write_text(folder / "a.json", "new")


def picture(folder: Path) -> None:
    store_image(folder, np.zeros((4, 4, 3), np.uint8))


def parquet(folder: Path) -> None:
    with parquet_writer(folder / "a.parquet") as write:
        write({"images": [], "problem": "x", "answer": "1"})


@pytest.mark.parametrize("write", [whole, text, picture, parquet])
def test_every_writer_leaves_a_file_whole_or_not_at_all(tmp_path, write, monkeypatch):
    """At the moment before a file has its name, a kill would leave what HALF_WRITTEN knows; an error leaves
    nothing.
    """
    seen: list[str] = []

    def failing(source, target):
        seen.extend(os.listdir(tmp_path))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", failing)
    with pytest.raises(OSError, match=r"No space left on device \(.* free on its disk\)"):
        write(tmp_path)
    assert len(seen) == 1
    assert HALF_WRITTEN.fullmatch(seen[0])
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    write(tmp_path)
    (name,) = os.listdir(tmp_path)
    assert not HALF_WRITTEN.fullmatch(name)
    assert seen[0].startswith(f"{name}.{os.getpid()}_")


def test_threads_may_write_the_same_file_at_once(tmp_path):
    meeting = threading.Barrier(8)

    def write(number: int) -> None:
        with whole_file(tmp_path / "a") as partial:
            partial.write_bytes(bytes([number]) * 1000)
            meeting.wait()

    threads = [threading.Thread(target=write, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.listdir(tmp_path) == ["a"]
    assert len(set((tmp_path / "a").read_bytes())) == 1


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    write_text(tmp_path / "a", "before")

    def rows():
        yield "half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "a") as partial:
        partial.write_text("".join(rows()))
    assert (tmp_path / "a").read_text() == "before"
    assert os.listdir(tmp_path) == ["a"]


def test_a_run_that_goes_on_removes_what_was_half_written_and_nothing_else(tmp_path):
    run = Run(tmp_path / "run").create()
    left = [
        "metrics.jsonl.7.partial",
        "probe.pt.7_140.partial",
        "images/aa.webp.7_140.partial",
        "rollouts/step_000001.jsonl.7_1.partial",
    ]
    theirs = ["notes.partial", "notes.x_1.partial", "a.7.partial.txt", "a.7_.partial"]
    for name in [*left, *theirs]:
        (run.folder / name).write_text("x")
    run.clear_up()
    assert [name for name in left if (run.folder / name).exists()] == []
    assert [name for name in theirs if not (run.folder / name).exists()] == []


def lines_of(tmp_path, *lines: str) -> Run:
    run = Run(tmp_path / "run").create()
    run.metrics_file.write_text("".join(f"{line}\n" for line in lines))
    return run


@pytest.mark.parametrize(
    "step", ['"1"', "true", "1.0", "NaN", "null", "-1", "[1]", "1e3", "9007199254740993"]
)
def test_a_step_is_a_whole_number(tmp_path, step):
    run = lines_of(tmp_path, '{"step": 0}', f'{{"step": {step}}}')
    for read in (run.read_metrics, lambda: run.rewind(1), run.missing_steps):
        with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: step is .*not a whole number from 0"):
            read()


def test_figures_are_finite_or_none(tmp_path):
    run = lines_of(
        tmp_path,
        '{"step": 1, "a": Infinity, "b": NaN, "c": 1e999, "d": 1' + "0" * 400 + ', "e": 2, "f": null}',
    )
    (line,) = run.read_metrics()
    assert [line[key] for key in "abcdef"] == [None, None, None, None, 2.0, None]
    run.rewind(0)
    assert json.loads((run.folder / "metrics.discarded.jsonl").read_text())["e"] == 2.0
    for value in ('"x"', "true", "[]", "{}"):
        with pytest.raises(ValueError, match=r"line 1: a is .*, not a number"):
            lines_of(tmp_path, f'{{"step": 1, "a": {value}}}').read_metrics()


@pytest.mark.parametrize(
    ("steps", "last", "missing"),
    [
        ([0, 1, 2, 3], None, ""),
        ([1, 2, 3], 3, ""),
        ([3, 4], 4, ""),  # gone on from another run's checkpoint
        ([0, 1, 4, 9], None, "2-3, 5-8"),
        ([0, 1, 2], 4, "3-4"),
        ([2, 1], None, ""),
        ([], None, ""),
        ([1, 9_000_000_000_000_000], None, "2-8999999999999999"),
    ],
)
def test_missing_steps_are_found(tmp_path, steps, last, missing):
    assert lines_of(tmp_path, *(f'{{"step": {step}}}' for step in steps)).missing_steps(last) == missing


def test_rollouts_tell_of_steps_without_a_line(tmp_path):
    run = lines_of(tmp_path, '{"step": 3}')
    for step in (1, 2, 3, 4):
        run.write_rollouts(step, [])
    assert run.missing_steps() == "1-2", "step 4 may still be going on"
    assert run.missing_steps(4) == "1-2, 4"


def test_rollouts_that_are_discarded_need_not_be_readable(tmp_path):
    run = lines_of(tmp_path, '{"step": 1}')
    run.rollouts_file(2).write_bytes(b"junk\n\xff\n")
    run.rewind(1)
    assert (run.folder / "rollouts.discarded.jsonl").read_bytes() == b"junk\n\xff\n"
    assert run.rollout_steps() == []


SAMPLE = {
    "id": "a", "group": "a", "k": 0, "prompt": "", "images": [], "response": "", "finished": True,
    "gold": "1", "extracted": None, "gold_type": "integer", "correct": True, "outcome": "equal",
    "reward": {"overall": 1.0}, "seed": 0, "length": 1, "meta": {},
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"id": None}, {"response": 3}, {"images": [3]}, {"reward": {"overall": "x"}},
     {"reward": {"overall": math.nan}}, {"more": 1}],
)  # fmt: skip
def test_a_sample_that_is_none_is_named(tmp_path, change):
    evaluation = EvaluationFolder(tmp_path)
    evaluation.samples_file.write_text(json.dumps(SAMPLE) + "\n" + json.dumps({**SAMPLE, **change}) + "\n")
    with pytest.raises(
        ValueError, match=r"samples\.jsonl, line 2: not a sample: .*Mend the line, or delete it"
    ):
        list(evaluation.samples())
    less = {key: SAMPLE[key] for key in SAMPLE if key not in change or key == "meta"}
    if len(less) < len(SAMPLE):
        evaluation.samples_file.write_text(json.dumps(less) + "\n")
        with pytest.raises(ValueError, match=f"line 1: not a sample: no '{next(iter(change))}'"):
            list(evaluation.samples())


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([0, 1, 2], []),
        ([], []),
        ([5, 9], []),
        ([0, 1, 1, 2], ["line 3: step 1 again, as in line 2"]),
        ([0, 1, 3, 2], ["line 4: step 2 after step 3"]),
        ([1, 2, 1, 2, 3], ["line 3: step 1 again, as in line 1", "line 4: step 2 again, as in line 2"]),
        ([3, 3, 3], ["line 2: step 3 again, as in line 1", "line 3: step 3 again, as in line 1"]),
    ],
)
def test_steps_that_come_twice_or_late_are_told_with_file_and_line(tmp_path, steps, said):
    run = lines_of(tmp_path, *(f'{{"step": {step}}}' for step in steps))
    assert run.disorder() == [f"{run.metrics_file}, {line}" for line in said]


def test_the_same_lines_discarded_again_are_kept_again_unless_they_stand_there_last(tmp_path):
    path = tmp_path / "discarded.jsonl"
    one, two = b'{"a": 1}\n', b'{"a": 2}\n'
    for lines, there in (
        (one + two, one + two),
        (one + two, one + two),
        (two + one, one + two + one),
        (one + one, one + two + one + one),
        (b"", one + two + one + one),
    ):
        append_once(path, lines)
        assert path.read_bytes() == there


def test_what_cannot_be_removed_is_told_and_in_nobody_s_way(tmp_path, capsys, monkeypatch):
    """As on a network's disk, where somebody reads in it."""
    run = Run(tmp_path).create()
    for name in (".replaced_step_000001", ".partial_step_000001", ".removed_step_000001", "step_000001"):
        (run.checkpoints / name).mkdir()
        (run.checkpoints / name / "weights").write_text(name)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)
        run.clear_up()
        assert capsys.readouterr().out.count("could not be removed yet") == 3
        with run.new_checkpoint(1) as folder:
            (folder / "weights").write_text("new")
        run.remove_checkpoint(1)
    assert run.checkpoint_steps() == []
    assert "is called .replaced_step_000001.moved_1 now" in capsys.readouterr().out
    run.clear_up()
    assert all(".moved_" in path.name for path in run.checkpoints.iterdir())


def test_a_file_that_is_called_as_an_unfinished_checkpoint_is_let_be(tmp_path, capsys):
    run = Run(tmp_path).create()
    (run.checkpoints / ".partial_step_000002").write_text("somebody's")
    (run.folder / "metrics.jsonl.77.partial").mkdir()
    run.clear_up()
    assert (run.checkpoints / ".partial_step_000002").read_text() == "somebody's"
    with run.new_checkpoint(2):
        pass
    assert (run.checkpoints / ".partial_step_000002.moved_1").read_text() == "somebody's"


@pytest.mark.parametrize("there", [0, 1, 2, 3])
def test_equal_lines_and_many_lines_are_appended_once(tmp_path, there):
    path = tmp_path / "lines.jsonl"
    before, new = b'{"a": 0}\n' * 5, [b'{"a": 0}\n', b'{"a": 0}\n', b'{"a": 1}\n']
    path.write_bytes(b'{"b": 1}\n' + before + b'{"b": 2}\n' + b"".join(new[:there]))
    append_once(path, b"".join(new))
    assert path.read_bytes() == b'{"b": 1}\n' + before + b'{"b": 2}\n' + b"".join(new)
