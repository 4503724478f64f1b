"""A chunk's file that is not the plan's is named, set aside and answered again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gmpo_vl.evaluation.chunks import sound_chunks
from gmpo_vl.evaluation.results import finish
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.storage.files import append_jsonl

NAME = "small+data=test"


@pytest.fixture
def chunked(whole, tmp_path) -> EvaluationFolder:
    """An evaluation with all its chunks (7, of 2 questions x 3 samples), not joined yet."""
    folder = EvaluationFolder(shutil.copytree(whole, tmp_path / "out" / NAME))
    lines = folder.samples_file.read_text().splitlines(keepends=True)
    folder.chunks.mkdir()
    for number in range(7):
        (folder.chunks / f"{number:06d}.jsonl").write_text("".join(lines[6 * number : 6 * number + 6]))
        (folder.chunks / f"{number:06d}.seconds").write_text("1.000\n")
    for file in ("samples.jsonl", "results.json", "timing.json", "result.html"):
        (folder.folder / file).unlink()
    return folder


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


def changed(path: Path, **values) -> None:
    first, *others = lines_of(path)
    path.write_text(json.dumps(json.loads(first) | values) + "\n" + "".join(others))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_text(""), "has 0 samples"),
    "short": (lambda path: path.write_text("".join(lines_of(path)[:3])), "has 3 samples"),
    "torn": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "cannot be read"),
    "junk": (lambda path: path.write_text("{" * 9 + "\n" + "".join(lines_of(path)[1:])), "line 1: not JSON"),
    "no text": (lambda path: path.write_bytes(b"\xff" + path.read_bytes()), "cannot be read"),
    "deep": (
        lambda path: path.write_text("[" * 100_000 + "\n" + "".join(lines_of(path)[1:])),
        "cannot be read",
    ),
    "no record": (lambda path: path.write_text("{}\n" * 6), "cannot be read"),
    "a line twice": (lambda path: path.write_text("".join(lines_of(path)[:1] * 6)), "line 2"),
    "too long": (lambda path: append_jsonl(path, [json.loads(lines_of(path)[0])]), "has 7 samples"),
    "another order": (lambda path: path.write_text("".join(reversed(lines_of(path)))), "line 1"),
    "another seed": (lambda path: changed(path, seed=1), "line 1"),
    "another question": (lambda path: changed(path, id="alien"), "line 1"),
    "another chunk": (
        lambda path: shutil.copy(path.with_name("000005.jsonl"), path),
        "of chunk|other questions",
    ),
    "no seconds": (lambda path: path.with_suffix(".seconds").unlink(), "cannot be read"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_chunk_is_named_and_its_evaluation_does_not_end(fault, chunked, gmpo_vl, capsys):
    damage, said = FAULTS[fault]
    damage(chunked.chunks / "000002.jsonl")
    assert sound_chunks(chunked, chunked.plan() or {}) >= {0, 1, 3, 4, 6}
    told = capsys.readouterr().err
    assert "000002.jsonl " in told
    assert any(part in told for part in said.split("|")), told
    assert (chunked.chunks / "000002.jsonl.bad").exists()
    assert "chunks are missing (the first is 2)" in gmpo_vl("eval", "merge", chunked.folder, code=2)
    assert not chunked.finished


def test_what_was_set_aside_before_stays(chunked, capsys):
    for k, text in enumerate(("first", "second", "third")):
        (chunked.chunks / "000002.jsonl").write_text(text)
        (chunked.chunks / "000002.seconds").write_text(text)
        assert 2 not in sound_chunks(chunked, chunked.plan() or {})
        ending = "bad" if k == 0 else f"bad_{k + 1}"
        assert f"set aside as 000002.jsonl.{ending}\n" in capsys.readouterr().err
    for ending, text in (("bad", "first"), ("bad_2", "second"), ("bad_3", "third")):
        assert (chunked.chunks / f"000002.jsonl.{ending}").read_text() == text
        assert (chunked.chunks / f"000002.seconds.{ending}").read_text() == text


def test_the_same_command_answers_bad_chunks_again(chunked, whole, small_eval, gmpo_vl, content, capsys):
    (chunked.chunks / "000000.jsonl").write_text("")
    shutil.copy(chunked.chunks / "000005.jsonl", chunked.chunks / "000003.jsonl")
    shutil.copy(chunked.chunks / "000005.jsonl", chunked.chunks / "000007.jsonl")
    gmpo_vl(*small_eval, "--out", chunked.folder.parent)
    assert content(chunked.folder) == content(whole)


def test_a_chunk_that_the_plan_does_not_have_is_set_aside(chunked, whole, gmpo_vl, content):
    shutil.copy(chunked.chunks / "000005.jsonl", chunked.chunks / "000007.jsonl")
    gmpo_vl("eval", "merge", chunked.folder)
    assert content(chunked.folder) == content(whole)


def test_a_merge_takes_the_good_one_of_two(chunked, whole, gmpo_vl, tmp_path, content):
    other = shutil.copytree(chunked.folder, tmp_path / "other" / NAME)
    (chunked.chunks / "000001.jsonl").write_text("")
    (other / "chunks" / "000004.jsonl").write_text("")
    gmpo_vl("eval", "merge", chunked.folder, other)
    assert content(chunked.folder) == content(whole)


@pytest.mark.parametrize(
    "damage", [{"protocol": 3}, {"protocol": {}}, {"questions": "many"}, {"questions": None}, {"chunk": "x"}]
)
def test_a_plan_that_does_not_say_its_chunks_is_told(chunked, damage):
    plan = json.loads(chunked.plan_file.read_text())
    chunked.plan_file.write_text(json.dumps(plan | damage))
    with pytest.raises(ValueError, match=r"plan\.json: .* not a number of"):
        finish(chunked)
