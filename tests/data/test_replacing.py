"""Files that belong together: whenever a conversion is killed, no reader sees parts of two, and the same
command goes on.
"""

import json
import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from gmpo_vl.data import writing
from gmpo_vl.data.rows import DataError
from gmpo_vl.data.writing import UNFINISHED, replacing

# Converts under one mapping, then is killed at each move or removal of a file in a conversion under another.
# The process never converts itself: a fork is clean only before the libraries have threads.
KILLS = """
import json, os, shutil, sys
from pathlib import Path
import datasets, pyarrow.parquet, numpy
from gmpo_vl.data.convert import convert
from gmpo_vl.data.examples import load_examples

folder = Path(sys.argv[1])

def in_child(work):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}

def killed_at(number, mapping, out):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event in OPERATIONS and str(out) in str(arguments[0]):
            seen += 1
            if seen == number:
                os._exit(9)
    sys.addaudithook(hook)
    convert(mapping, out)

def state(out):
    card = json.loads((out / "data_card.json").read_text()) if (out / "data_card.json").exists() else None
    files = {p.name: p.read_bytes() for p in sorted(out.glob("*.parquet"))}
    return card, files

old, new = folder / "old.yaml", folder / "new.yaml"
wanted = {}
for mapping in (old, new):
    assert in_child(lambda: convert(mapping, folder / mapping.stem)) == 0
    wanted[mapping.stem] = state(folder / mapping.stem)[1]
number, ending = 0, 9
while ending == 9:
    number += 1
    out = folder / f"out{number}"
    shutil.copytree(folder / "old", out)
    ending = in_child(lambda: killed_at(number, new, out))
    card, files = state(out)
    of = {name for name in wanted if files.items() <= wanted[name].items()}
    assert of, (number, "files of two conversions", list(files))
    if card is not None:
        (name,) = of
        assert list(card["splits"]) == [f.removesuffix(".parquet") for f in files], number
        assert files == wanted[name] and card["preparation"] == (folder / f"{name}.yaml").read_text(), number
    assert in_child(lambda: convert(new, out)) == 0, (number, "the same command is refused")
    assert state(out)[1] == wanted["new"] and state(out)[0] is not None, number
    assert sorted(p.name for p in out.iterdir()) == ["data_card.json", *sorted(wanted["new"])], number
print(number)
"""


def test_a_conversion_killed_anywhere_leaves_no_mixture_and_goes_on(tmp_path):
    rows = [json.dumps({"q": f"What is {i}?", "a": str(i)}) for i in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    text = "source: a.jsonl\nproblem: q\nanswer: a\nvalidation: {}\n"
    (tmp_path / "old.yaml").write_text(text.format(0.5))
    (tmp_path / "new.yaml").write_text(text.format(0.2))
    done = subprocess.run([sys.executable, "-c", KILLS, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10  # kills


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def write(out: Path, texts: dict[str, str], replaces: tuple[str, ...] = ()) -> None:
    with replacing(out, last="card") as new:
        new.replaces = list(replaces)
        for name, text in texts.items():
            (new.folder / name).write_text(text)


def test_new_files_come_together_and_what_they_replace_goes(tmp_path):
    write(tmp_path / "out", {"a": "1", "b": "1", "card": "1"})
    (tmp_path / "out/mine").write_text("mine")
    write(tmp_path / "out", {"a": "2", "card": "2"}, replaces=("b",))
    assert contents(tmp_path / "out") == {"a": "2", "card": "2", "mine": "mine"}


@pytest.mark.parametrize("removed", [0, 1, 2, 3])
def test_what_was_put_there_after_a_kill_is_renamed_not_removed(tmp_path, monkeypatch, capsys, removed):
    """Killed when so many of card, a and b were removed; then somebody puts files of their own in their
    places.
    """
    out, make_way, replace, calls = tmp_path / "out", writing._make_way, os.replace, count()
    write(out, {"a": "1", "b": "1", "card": "1"})

    def make_way_or_die(*arguments):
        if next(calls) == removed:
            raise KeyboardInterrupt
        make_way(*arguments)

    def replace_or_die(source, target):
        if Path(target).parent == out:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(writing, "_make_way", make_way_or_die)
        patched.setattr(os, "replace", replace_or_die)
        with pytest.raises(KeyboardInterrupt):
            write(out, {"a": "2", "card": "2"}, replaces=("b",))
    missing = ["card", "a", "b"][:removed]
    for name in missing:
        (out / name).write_text("mine")
    write(out, {"c": "3"})
    moved = {f"{name}.moved_1": "mine" for name in missing}
    assert contents(out) == {"a": "2", "card": "2", "c": "3", **moved}
    assert capsys.readouterr().out.count("is none of ours") == removed


def test_what_fails_changes_nothing(tmp_path):
    write(tmp_path, {"a": "1", "card": "1"})
    with pytest.raises(TypeError, match="must be str"):
        write(tmp_path, {"a": "2", "b": 3})  # type: ignore[dict-item]  # the second cannot be written
    assert contents(tmp_path) == {"a": "1", "card": "1"}


def test_two_at_once_do_not_meet(tmp_path):
    """The second is told so; it writes when the first has gone, however that went."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with replacing(tmp_path) as new:
            (new.folder / "a").write_text("theirs")
            os.write(writer, b"x")
            signal.pause()
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    try:
        with pytest.raises(DataError, match="another process is writing data into this folder"):
            write(tmp_path, {"a": "ours"})
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert (tmp_path / UNFINISHED / "a").exists()
    write(tmp_path, {"a": "ours"})
    assert contents(tmp_path) == {"a": "ours"}


def killed_between_moves(out: Path, plan: str | bytes, files: tuple[str, ...] = ("a", "card")) -> None:
    """OUT as a process leaves it that was killed before the first move, with this plan."""
    (out / UNFINISHED).mkdir(parents=True)
    for name in files:
        (out / UNFINISHED / name).write_text("new")
    (out / UNFINISHED / "plan.json").write_bytes(plan if isinstance(plan, bytes) else plan.encode())


def plan_of(files: object, replaces: object = ()) -> str:
    return json.dumps({"files": files, "replaces": replaces})


DAMAGED = [
    "",
    "{",
    "[]",
    "5",
    "null",
    "{}",
    "[" * 100_000,
    '{"a": ' * 100_000,
    b"\xff\xfe",
    b"\0",
    '{"files": []}',
    *(plan_of(names) for names in (5, "a", None, {"a": 1}, [5], [None], [["a"]], [""], ["."], [".."])),
    *(plan_of([name]) for name in ("../x", "/tmp/x", "a/b", "a/", "./a", "a\0", "plan.json", UNFINISHED)),
    *(plan_of(["a", "card"], names) for names in (5, "a", ["../outside"], ["deep/x"], [UNFINISHED])),
    plan_of(["a", "gone", "card"]),
]


@pytest.mark.parametrize("plan", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_plan_is_told_and_nothing_is_touched(tmp_path, plan):
    out = tmp_path / "out"
    killed_between_moves(out, plan)
    for place in (tmp_path / "outside", tmp_path / "x", out / "a", out / "deep/x"):
        place.parent.mkdir(exist_ok=True)
        place.write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=r"plan\.json is damaged: .*To go on, delete the folder") as told:
        write(out, {"a": "2", "card": "2"})
    assert len(str(told.value)) < 700
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_plan_that_was_half_done_is_gone_on_with_and_no_other(tmp_path):
    out = tmp_path / "out"
    killed_between_moves(out, plan_of(["a", "b", "card"], ["old"]), ("b", "card"))
    (out / "a").write_text("new")
    (out / "old").write_text("old")
    write(out, {"card": "2"})
    assert contents(out) == {"a": "new", "b": "new", "card": "2"}
    killed_between_moves(out, plan_of(["a", "b", "card"]), ("a", "card"))  # b cannot have come before a
    with pytest.raises(DataError, match="'a' is not where it was left"):
        write(out, {"card": "2"})


@pytest.mark.parametrize("kind", ["file", "link", "link to nothing"])
def test_what_stands_in_the_place_of_the_unfinished_files_is_told_and_stays(tmp_path, kind):
    out, place = tmp_path / "out", tmp_path / "out" / UNFINISHED
    out.mkdir()
    if kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to(tmp_path / "theirs")
    if kind == "link":
        killed_between_moves(tmp_path / "other", plan_of(["a", "card"]))
        (tmp_path / "other" / UNFINISHED).rename(tmp_path / "theirs")
    with pytest.raises(DataError, match=r"\.unfinished is no folder of this command; move it away"):
        write(out, {"a": "2", "card": "2"})
    assert os.path.lexists(place)
    assert not (tmp_path / "theirs").exists() or (tmp_path / "theirs/a").read_text() == "new"


def test_folders_in_the_place_of_files_are_told(tmp_path):
    out = tmp_path / "out"
    killed_between_moves(out, plan_of(["a", "card"]))
    (out / "a").mkdir()
    with pytest.raises(DataError, match=r"out/a is a folder"):
        write(out, {"a": "2", "card": "2"})
    (tmp_path / "more/out/b").mkdir(parents=True)
    with pytest.raises(DataError, match=r"out/b is a folder; move it away"):
        write(tmp_path / "more/out", {"a": "1", "b": "1"})
    assert not (tmp_path / "more/out" / UNFINISHED).exists()
    (out / UNFINISHED / "plan.json").unlink()
    (out / UNFINISHED / "plan.json").mkdir()
    with pytest.raises(DataError, match=r"plan\.json is damaged: it is a folder"):
        write(out, {"a": "2", "card": "2"})
