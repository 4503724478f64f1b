"""Who may work in a run's folder, what counts as a checkpoint there, and what a kill leaves of one."""

import errno
import fcntl
import json
import os
import signal
import socket
from itertools import count

import pytest
from kills import Changes, in_a_fork

from gmpo_vl.cli import main
from gmpo_vl.engines import loop
from gmpo_vl.engines.checkpoint import Progress, tidy_checkpoints
from gmpo_vl.engines.local.engine import train
from gmpo_vl.runs import EvaluationFolder, Run
from gmpo_vl.storage.locks import IN_USE, FolderInUse, locked

NO_CHECKPOINTS = (
    "step_000003_keep",
    "step_000004_backup",
    "step_000009.bak",
    "step_000002 (copy)",
    "step_final",
    "step_12",
    "step_0000007",
    "step_٠٠٠٠٠٨",
    "Step_000008",
    "step_-00001",
    "step_",
    "step_000008 ",
)
NO_ROLLOUTS = ("step_000001.bak.jsonl", "step_000002 (copy).jsonl", "step_x.jsonl", "validation_.jsonl")


def test_a_second_run_in_a_folder_is_refused_and_told_who_is_there(
    config_file, overrides, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path / "run")
    arguments = ["train", str(config_file), *overrides]
    with locked(tmp_path / "run"):
        for name in (tmp_path / "run", tmp_path / "linked", "run", "linked/../run"):
            assert main([*arguments, f"trainer.save_checkpoint_path={name}"]) == IN_USE
            assert (
                main([*arguments, f"trainer.save_checkpoint_path={name}", "trainer.val_only=true"]) == IN_USE
            )
            said = capsys.readouterr().err
            assert f"in use by process {os.getpid()} on {socket.gethostname()} since 2" in said
        assert not (tmp_path / "run" / "checkpoints").exists()
        Run("run").append_metrics(1, {"val/accuracy": 0.5})
        assert main(["report", "run"]) == 0, "reading stays possible"
    (tmp_path / "run" / "metrics.jsonl").unlink()
    assert main([*arguments, "trainer.max_steps=1", "trainer.val_freq=-1"]) == 0


def test_a_killed_process_leaves_no_lock_even_where_a_child_of_it_lives_on(tmp_path):
    born, end = os.pipe(), os.pipe()

    def hold_and_die():
        with locked(tmp_path):
            if os.fork() == 0:
                os.close(end[1])
                os.write(born[1], b"x")
                os.read(end[0], 1)  # until the test is over
                os._exit(0)
            os.read(born[0], 1)
            with pytest.raises(FolderInUse), locked(tmp_path):
                pass
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_fork(hold_and_die) == -signal.SIGKILL
    with locked(tmp_path):
        pass
    for descriptor in (*born, *end):
        os.close(descriptor)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_said_and_no_reason_to_stop(number, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path):
        assert (
            f"lock cannot be locked ({os.strerror(number)}): nothing keeps a second run out"
            in capsys.readouterr().out
        )


def test_only_what_is_named_as_a_checkpoint_is_one(make_config, capsys):
    config = make_config("trainer.max_steps=2")
    run = Run(config.trainer.save_checkpoint_path).create()
    for name in NO_CHECKPOINTS:
        (run.checkpoints / name / "huggingface").mkdir(parents=True)
    (run.checkpoints / "step_000005").symlink_to("step_000003_keep")
    (run.checkpoints / "step_000006").symlink_to("nowhere")
    (run.checkpoints / "step_000004").write_text("a file")
    (run.checkpoints / ".partial_step_000009_keep").mkdir()
    for name in NO_ROLLOUTS:
        (run.folder / "rollouts" / name).write_text("somebody's\n")
    theirs = {*os.listdir(run.checkpoints), *os.listdir(run.folder / "rollouts")}

    train(config)
    assert (run.checkpoint_steps(), run.rollout_steps()) == ([2], [1, 2])
    train(make_config("trainer.max_steps=4", "trainer.save_limit=1", "trainer.save_best=false"))
    assert run.checkpoint_steps() == [4]
    assert run.rollout_steps() == [1, 2, 3, 4]
    assert "step_000004 is none of ours: it is called step_000004.moved_1 now" in capsys.readouterr().out
    assert (run.checkpoints / "step_000004.moved_1").read_text() == "a file"
    assert theirs <= {*os.listdir(run.checkpoints), *os.listdir(run.folder / "rollouts")}
    assert main(["report", str(run.folder)]) == 0


def test_only_what_is_named_as_a_chunk_is_one(tmp_path):
    folder = EvaluationFolder(tmp_path)
    folder.write_chunk(3, [], 1.0)
    for name in (".partial_000004.jsonl", "000005 (copy).jsonl", "6.jsonl", "000007.bak.jsonl", "x.jsonl"):
        (folder.chunks / name).write_text("")
    assert folder.finished_chunks() == [3]


def write_checkpoint(run: Run, step: int, text: str) -> None:
    with run.new_checkpoint(step) as folder:
        (folder / "trainer").mkdir()
        (folder / "weights").write_text(text * 100)
        (folder / "trainer" / "state").write_text(text)


def content(run: Run, step: int) -> str:
    whole = (run.checkpoint(step) / "trainer" / "state").read_text()
    assert (run.checkpoint(step) / "weights").read_text() == whole * 100
    return whole


def test_a_kill_at_any_change_of_a_checkpoint_leaves_a_complete_one(tmp_path):
    """One is replaced by another of the same step, then an older one removed."""
    seen = []
    for kill_at in count(1):
        run = Run(tmp_path / str(kill_at)).create()
        for step in (2, 3):
            write_checkpoint(run, step, "old")

        def replace_and_prune(run: Run = run) -> None:
            write_checkpoint(run, 3, "new")
            run.remove_checkpoint(2)

        ended = in_a_fork(replace_and_prune, Changes(run.folder, kill_at))
        run.clear_up()
        seen.append((content(run, 3), run.checkpoint_steps()))
        if 2 in run.checkpoint_steps():
            assert content(run, 2) == "old"
        assert {path.name for path in run.checkpoints.iterdir()} == {
            f"step_{n:06d}" for n in run.checkpoint_steps()
        }
        if ended == 0:
            break
    assert seen == sorted(seen, key=lambda state: (state[0] == "new", -len(state[1]))), "never back again"
    assert seen[0] == ("old", [2, 3])
    assert seen[-1] == ("new", [3])


def test_a_kill_at_any_change_of_going_back_loses_nothing_and_doubles_nothing(tmp_path):
    """Lines that were discarded before stand in front; two of them are as some that come now."""
    for kill_at in count(1):
        run = Run(tmp_path / str(kill_at)).create()
        for step in (0, 1, 2, 3):
            run.append_metrics(step, {"a": step})
        for step in (1, 2, 3):
            run.rollouts_file(step).write_text(f'{{"of": {step}}}\n{{"of": {step}, "k": 1}}\n')
        run.rollouts_file(3, "validation").write_bytes(b"junk\n\xff")
        metrics, rollouts = (run.folder / f"{name}.discarded.jsonl" for name in ("metrics", "rollouts"))
        metrics.write_text('{"step": 2, "a": 9.0}\n{"step": 3, "a": 9.0}\n')
        ended = in_a_fork(lambda run=run: run.rewind(1), Changes(run.folder, kill_at))
        run.clear_up()
        run.rewind(1)
        assert [json.loads(line)["a"] for line in metrics.read_text().splitlines()] == [9, 9, 2, 3]
        assert rollouts.read_bytes() == (
            b'{"of": 2}\n{"of": 2, "k": 1}\n{"of": 3}\n{"of": 3, "k": 1}\njunk\n\xff\n'
        )
        assert [line["step"] for line in run.read_metrics()] == [0, 1]
        assert (run.rollout_steps(), run.rollout_steps("validation")) == ([1], [])
        if ended == 0:
            break
    assert kill_at > 10


def test_best_and_limit_are_made_good_for_when_a_run_is_opened(make_config, tmp_path, monkeypatch):
    """A kill after a checkpoint's last rename, after every one of them."""
    settings = ("trainer.save_freq=1", "trainer.save_limit=1", "trainer.val_freq=1", "trainer.max_steps=3")
    late = make_config(*settings, f"trainer.save_checkpoint_path={tmp_path / 'late'}")

    def state(run: Run):
        return run.checkpoint_steps(), (run.checkpoints / "best.json").read_bytes()

    whole = state(train(make_config(*settings)))
    with monkeypatch.context() as patched:
        patched.setattr(loop, "tidy_checkpoints", lambda *_: None)
        assert train(late).checkpoint_steps() == [1, 2, 3]
    assert state(train(late)) == whole


def test_best_json_never_names_a_checkpoint_that_is_gone(make_config, tmp_path):
    run = Run(tmp_path / "run").create()
    for step in (1, 2, 3):
        write_checkpoint(run, step, "x")
    best = run.checkpoints / "best.json"
    tidy_checkpoints(run, make_config().trainer, Progress(step=3, best_step=1, best_accuracy=0.5))
    assert '"step": 1' in best.read_text()
    tidy_checkpoints(
        run, make_config("trainer.save_limit=1", "trainer.save_best=false").trainer, Progress(3, best_step=1)
    )
    assert run.checkpoint_steps() == [3]
    assert not best.exists()
