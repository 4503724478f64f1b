"""A folder's lock whatever becomes of its file, and what a living process does that has lost it."""

import fcntl
import os
import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from kills import in_a_fork

from gmpo_vl.runs import Run
from gmpo_vl.storage import locks
from gmpo_vl.storage.locks import FolderInUse, check_lock, locked
from gmpo_vl.storage.tensors import telling_where

MISCHIEF = {
    "deleted": lambda folder: (folder / "lock").unlink(),
    "replaced": lambda folder: ((folder / "lock").unlink(), (folder / "lock").write_text("")),
    "renamed": lambda folder: (folder / "lock").rename(folder / "lock.old"),
    "a folder": lambda folder: ((folder / "lock").unlink(), (folder / "lock").mkdir()),
}


@pytest.fixture
def on_a_network(monkeypatch):
    """A file system that locks files, not folders."""
    real = fcntl.flock

    def flock(descriptor, kind):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(9, "Bad file descriptor")
        real(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", flock)


def refused(folder) -> int:
    def enter():
        with pytest.raises(FolderInUse), locked(folder):
            pass

    return in_a_fork(enter)


@pytest.mark.parametrize("what", MISCHIEF)
def test_no_second_process_comes_in_whatever_becomes_of_the_file(what, tmp_path):
    with locked(tmp_path):
        MISCHIEF[what](tmp_path)
        assert refused(tmp_path) == 0


def test_a_lock_that_was_deleted_is_made_again(tmp_path, on_a_network):
    run = Run(tmp_path).create()
    with locked(tmp_path):
        (tmp_path / "lock").unlink()
        run.append_metrics(1, {})
        assert f"process {os.getpid()} on {socket.gethostname()}" in (tmp_path / "lock").read_text()
        assert refused(tmp_path) == 0
    with locked(tmp_path):
        pass


def test_threads_that_find_it_deleted_make_it_once(tmp_path):
    with locked(tmp_path), ThreadPoolExecutor(8) as threads:
        for _ in range(50):
            (tmp_path / "lock").unlink()
            list(threads.map(check_lock, [tmp_path] * 16))
        assert refused(tmp_path) == 0


WRITES = {
    "metrics": lambda run: run.append_metrics(2, {}),
    "rollouts": lambda run: run.write_rollouts(2, []),
    "a removal": lambda run: run.remove_checkpoint(1),
    "going back": lambda run: run.rewind(0),
    "a checkpoint": lambda run: run.new_checkpoint(2).__enter__(),
}


@pytest.mark.parametrize("write", WRITES)
def test_who_has_lost_the_folder_writes_nothing_more(write, tmp_path, on_a_network):
    run = Run(tmp_path / "run").create()
    with locked(run.folder):
        run.append_metrics(1, {})
        run.checkpoint(1).mkdir()
        (run.folder / "lock").unlink()
        with locked(run.folder):  # the second one, on another machine
            before = sorted(path for path in run.folder.rglob("*"))
            with pytest.raises(
                FolderInUse, match=f"in use by process {os.getpid()} on .* as well: its file `lock`"
            ):
                locks._locks[0].check()
            theirs = locks._locks.pop()
            with pytest.raises(FolderInUse, match="stops, before the two write over each other"):
                WRITES[write](run)
            locks._locks.append(theirs)
        assert sorted(path for path in run.folder.rglob("*")) == before
        assert len(run.read_metrics()) == 1


@pytest.mark.parametrize("again", [True, False], ids=["another there", "nothing there"])
def test_a_folder_that_was_moved_is_not_written_into(again, tmp_path):
    run = Run(tmp_path / "run").create()
    with locked(run.folder):
        run.folder.rename(tmp_path / "moved")
        if again:
            Run(run.folder).create()
        with pytest.raises(FolderInUse, match="moved or deleted"):
            run.append_metrics(1, {})
    assert not run.metrics_file.exists()


def test_a_checkpoint_that_another_process_removed_meanwhile_is_said_to_be_that(tmp_path, on_a_network):
    """The other one opens the run, and so removes what is half written."""
    run = Run(tmp_path / "run").create()

    def save(mischief):
        with telling_where(run.checkpoints / ".partial_step_000001"), run.new_checkpoint(1) as folder:
            (folder / "weights").write_text("x")
            mischief()
            (folder / "more").write_text("x")

    def open_elsewhere():
        (run.folder / "lock").unlink()
        theirs.enter_context(locked(run.folder))
        locks._locks.reverse()  # ours is asked first
        run.clear_up()

    with (
        locked(run.folder),
        ExitStack() as theirs,
        pytest.raises(FolderInUse, match="as well: its file `lock`"),
    ):
        save(open_elsewhere)
    assert run.checkpoint_steps() == []


def test_a_lock_without_its_folder_s_and_without_a_holder_is_free(tmp_path):
    def die():
        with locked(tmp_path):
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_fork(die) == -signal.SIGKILL
    assert "process" in (tmp_path / "lock").read_text()
    with locked(tmp_path):
        check_lock(tmp_path)
    assert (tmp_path / "lock").read_text() == "", "nobody works here"


def test_who_shares_keeps_others_out_and_the_other_way_round(tmp_path):
    def share():
        with pytest.raises(FolderInUse), locked(tmp_path, shared=True):
            pass

    with locked(tmp_path, shared=True):
        with locked(tmp_path, shared=True):
            assert refused(tmp_path) == 0
        with (
            pytest.raises(FolderInUse, match="in use by processes that share it, the last to come process"),
            locked(tmp_path),
        ):
            pass
    with locked(tmp_path):
        assert in_a_fork(share) == 0


def test_a_run_s_folder_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to("real")
    with locked(tmp_path / "linked"):
        Run(tmp_path / "linked").create().append_metrics(1, {})
        assert refused(tmp_path / "real") == 0
        (tmp_path / "linked").unlink()
        shutil.copytree(tmp_path / "real", tmp_path / "linked")
        with pytest.raises(FolderInUse, match="moved or deleted"):
            Run(tmp_path / "linked").append_metrics(2, {})
