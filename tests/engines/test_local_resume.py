"""N steps, a kill, and N more are 2N steps to the last digit; nothing that was written is lost."""

import json
import multiprocessing
import os
import signal
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_runs import BASE, settings_of_run

from gmpo_vl import runs
from gmpo_vl.cli import main
from gmpo_vl.config import load_config
from gmpo_vl.engines import validation
from gmpo_vl.engines.answering import answered
from gmpo_vl.engines.checkpoint import group_from, group_state
from gmpo_vl.engines.local.engine import LocalEngine, train
from gmpo_vl.engines.session import Stopped
from gmpo_vl.models import forward
from gmpo_vl.models.tiny import save_tiny
from gmpo_vl.runs import Run
from gmpo_vl.setup import load_configured_processor, load_split
from gmpo_vl.storage.tensors import read_saved
from gmpo_vl.study.runner import PRELOADED
from gmpo_vl.types import Example, Group, Prompt, Response, Verdict


def die(*_, **__) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(moment: str, arguments: list[str]) -> None:
    """The command line with a SIGKILL at the chosen moment, as a machine that goes down would."""
    torch.set_num_threads(1)
    if moment == "during checkpoint":
        sync = runs.sync
        runs.sync = lambda path: die() if "step_000004" in str(path) else sync(path)
    if moment == "between checkpoints":
        append = Run.append_metrics

        def append_and_die(self, step, metrics):
            append(self, step, metrics)
            if step == 3:
                die()

        Run.append_metrics = append_and_die
    main(arguments)


def stopped(said: Path, arguments: list[str]) -> None:
    """The command line with a SIGTERM in its second step, and what it says in a file."""
    torch.set_num_threads(1)
    append = Run.append_metrics

    def append_and_stop(self, step, metrics):
        append(self, step, metrics)
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    Run.append_metrics = append_and_stop
    with said.open("w", buffering=1) as sys.stdout:
        sys.exit(main(arguments))


def in_its_own_process(target, *arguments) -> BaseProcess:
    """Started, forked from a server that has imported what a run needs: that takes longer than these runs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def figures(run: Run) -> list[dict]:
    """All metrics but those of time, memory and speed."""
    skip = ("time/", "memory/", "perf/")
    return [{k: v for k, v in line.items() if not k.startswith(skip)} for line in run.read_metrics()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, diagrams, tiny_folder) -> Run:
    """Shared: nobody writes into it."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "run.yaml").write_text(BASE)
    return train(load_config(folder / "run.yaml", settings_of_run(folder, diagrams, tiny_folder)))


@pytest.mark.parametrize("moment", ["between checkpoints", "during checkpoint"])
def test_a_killed_run_goes_on_to_the_same_last_digit(
    moment, make_config, config_file, overrides, uninterrupted
):
    process = in_its_own_process(killed, moment, ["train", str(config_file), *overrides])
    process.join()
    assert process.exitcode == -signal.SIGKILL
    run = Run(make_config().trainer.save_checkpoint_path)
    assert run.checkpoint_steps() == [2]
    assert [line["step"] for line in run.read_metrics()][-1] >= 3

    run = train(make_config())
    assert figures(run) == figures(uninterrupted)
    assert [line["step"] for line in run.read_metrics()] == [0, 1, 2, 3, 4]
    for step in (1, 2, 3, 4):
        assert run.rollouts_file(step).read_bytes() == uninterrupted.rollouts_file(step).read_bytes()
    discarded = (run.folder / "metrics.discarded.jsonl").read_text().splitlines()
    assert json.loads(discarded[0])["step"] == 3
    assert not list(run.checkpoints.glob(".partial*"))


def test_a_killed_run_with_advantages_over_the_batch_goes_on_to_the_same_last_digit(
    make_config, config_file, overrides, tmp_path
):
    """Groups that filtering carried over the kill count in the batch of the step that trains on them."""
    settings = [
        "algorithm.adv_estimator=gdpo",
        "algorithm.reward_weights={accuracy: 1.0, overlong: 0.5}",
        "algorithm.overlong_responses=soft",
        "algorithm.overlong_buffer=8",
        "algorithm.online_filtering=true",
        "data.mini_rollout_batch_size=3",
        "trainer.max_try_make_batch=10",
    ]
    process = in_its_own_process(
        killed, "between checkpoints", ["train", str(config_file), *overrides, *settings]
    )
    whole = train(make_config(*settings, f"trainer.save_checkpoint_path={tmp_path / 'whole'}"))
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert all("advantage/batch_std" in line for line in figures(whole)[1:])
    state = torch.load(
        Run(make_config().trainer.save_checkpoint_path).checkpoint(2) / "trainer/state.pt", weights_only=False
    )
    assert state["surplus"]
    halves = train(make_config(*settings))
    assert figures(halves) == figures(whole)
    for step in (1, 2, 3, 4):
        assert halves.rollouts_file(step).read_bytes() == whole.rollouts_file(step).read_bytes()


def test_online_filtering_goes_on_with_what_it_carried_over_to_the_same_last_digit(make_config, tmp_path):
    settings = [
        "algorithm.online_filtering=true",
        "data.mini_rollout_batch_size=3",
        "trainer.max_try_make_batch=10",
        "trainer.save_freq=1",
    ]
    whole = train(make_config(*settings, f"trainer.save_checkpoint_path={tmp_path / 'whole'}"))
    train(make_config(*settings, "trainer.max_steps=2"))
    halves = train(make_config(*settings))
    assert figures(halves) == figures(whole)
    assert any(line.get("filter/tries", 0) > 1 for line in figures(whole))


def test_a_finished_run_is_left_as_it_is(make_config):
    run = train(make_config())
    before = run.metrics_file.read_bytes()
    train(make_config())
    assert run.metrics_file.read_bytes() == before


def test_other_data_is_refused_on_resume(make_config, diagrams):
    train(make_config("trainer.max_steps=2"))
    with pytest.raises(ValueError, match="was trained on other data"):
        train(make_config(f"data.train_files={diagrams / 'test.parquet'}"))


def test_a_run_that_is_not_resumed_is_not_overwritten(make_config):
    train(make_config("trainer.max_steps=2"))
    with pytest.raises(FileExistsError, match="already holds a run"):
        train(make_config("trainer.find_last_checkpoint=false"))


def test_sigterm_saves_and_the_run_goes_on(make_config, config_file, overrides, uninterrupted, tmp_path):
    said = tmp_path / "said.txt"
    settings = ["trainer.save_freq=-1", "trainer.save_best=false", "trainer.logger=[console]"]
    process = in_its_own_process(stopped, said, ["train", str(config_file), *overrides, *settings])
    process.join()
    assert process.exitcode == 128 + signal.SIGTERM
    assert "SIGTERM: saving" in said.read_text()
    assert "run the same command again to go on" in said.read_text()
    run = train(make_config())
    assert figures(run) == figures(uninterrupted)


def test_a_stop_during_validation_is_made_good_for_on_resume(make_config, uninterrupted, monkeypatch):
    def answer_then_stop(*of):
        played = answered(*of)
        signal.raise_signal(signal.SIGTERM)
        return played

    settings = ("trainer.val_before_train=false", "trainer.save_freq=-1", "data.val_batch_size=2")
    with monkeypatch.context() as patched:
        patched.setattr(validation, "answered", answer_then_stop)
        with pytest.raises(Stopped) as stopped:
            train(make_config(*settings))
    assert stopped.value.code == 128 + signal.SIGTERM
    run = Run(make_config().trainer.save_checkpoint_path)
    assert run.checkpoint_steps() == [2]
    assert [line["step"] for line in run.read_metrics()] == [1]
    assert figures(train(make_config(*settings))) == figures(uninterrupted)[1:]
    assert [line["step"] for line in run.read_metrics()] == [1, 2, 3, 4]


def test_a_step_made_good_for_goes_the_way_its_run_had_checked(make_config, tmp_path, monkeypatch):
    """The shared forward is wrong here: neither the run nor its resume, before it has checked anything,
    measures with it.
    """
    right = forward._shared_hidden

    def wrong(*args):
        hidden_NH, predict_M = right(*args)
        return hidden_NH * 2, predict_M

    def answer_then_stop(*of):
        played = answered(*of)
        signal.raise_signal(signal.SIGTERM)
        return played

    monkeypatch.setattr(forward, "_shared_hidden", wrong)
    settings = (
        "trainer.kl_to_start_freq=1",
        "trainer.kl_to_start_prompts=4",
        "trainer.val_before_train=false",
        "trainer.max_steps=2",
        "data.val_batch_size=2",
    )
    whole = train(make_config(*settings, f"trainer.save_checkpoint_path={tmp_path / 'whole'}"))
    with monkeypatch.context() as patched:
        patched.setattr(validation, "answered", answer_then_stop)
        with pytest.raises(Stopped):
            train(make_config(*settings))
    assert len(Run(make_config().trainer.save_checkpoint_path).read_metrics()) == 1, (
        "stopped in step 2's validation"
    )
    assert figures(train(make_config(*settings))) == figures(whole)


def test_parameters_that_were_not_trained_before_are_refused_on_resume(make_config):
    run = train(make_config("trainer.max_steps=2", "worker.actor.model.freeze_vision_tower=true"))
    for more in ("worker.actor.model.freeze_vision_tower=false", "worker.actor.model.lora.rank=2"):
        with pytest.raises(ValueError, match=more.partition("=")[0]):
            train(make_config(more))
        # A checkpoint of an earlier version does not say what was trained; its optimizer's state does.
        config = make_config(more)
        with pytest.raises(ValueError, match="freeze_vision_tower must be what they were"):
            LocalEngine(config, load_configured_processor(config), run.checkpoint(2))


def test_the_start_is_measured_on_the_same_prompts_whatever_order_a_resumed_run_takes(make_config):
    settings = ("trainer.kl_to_start_freq=1", "worker.actor.optim.lr=0")
    train(make_config(*settings, "trainer.max_steps=2"))
    run = train(make_config(*settings, "data.seed=2"))
    assert [line["actor/kl_to_start"] for line in run.read_metrics()[1:]] == [0.0] * 4


def test_going_back_within_a_run_is_not_done_in_silence(make_config, tmp_path):
    run = train(make_config())
    back = f"trainer.load_checkpoint_path={run.checkpoint(2)}"
    with pytest.raises(ValueError, match="is not this run's last checkpoint"):
        train(make_config(back))
    other = train(
        make_config(back, f"trainer.save_checkpoint_path={tmp_path / 'other'}", "trainer.val_freq=-1")
    )
    assert [line["step"] for line in other.read_metrics()] == [3, 4]
    assert not (other.checkpoints / "best.json").exists(), "the best so far lies in the first run"


def test_a_run_that_saves_models_only_can_go_on_after_a_stop(make_config, uninterrupted, monkeypatch):
    def answer_then_stop(*of):
        played = answered(*of)
        signal.raise_signal(signal.SIGTERM)
        return played

    only = "trainer.save_model_only=true", "trainer.val_before_train=false"
    with monkeypatch.context() as patched:
        patched.setattr(validation, "answered", answer_then_stop)
        with pytest.raises(Stopped):
            train(make_config(*only))
    assert figures(train(make_config(*only))) == figures(uninterrupted)[1:]


def test_kl_is_to_the_starting_model_after_a_resume_too(make_config, tmp_path):
    kl = ("algorithm.disable_kl=false", "algorithm.use_kl_loss=true", "algorithm.kl_penalty=low_var_kl")
    whole = train(make_config(*kl, f"trainer.save_checkpoint_path={tmp_path / 'whole'}"))
    train(make_config(*kl, "trainer.max_steps=2"))
    assert figures(train(make_config(*kl))) == figures(whole)


def test_validation_alone_discards_nothing(make_config):
    settings = ("trainer.save_freq=-1", "trainer.save_best=false", "trainer.max_steps=2")
    run = train(make_config(*settings))
    before = run.metrics_file.read_bytes(), (run.folder / "config.yaml").read_bytes()
    train(make_config(*settings, "trainer.val_only=true"))
    assert (run.metrics_file.read_bytes(), (run.folder / "config.yaml").read_bytes()) == before
    assert run.rollout_steps() == [1, 2]


def test_other_settings_on_resume_are_said_and_the_former_ones_kept(make_config, capsys):
    run = train(make_config("trainer.max_steps=2"))
    train(make_config("worker.actor.loss_type=grpo"))
    assert "other settings than before: worker.actor.loss_type, trainer.max_steps" in capsys.readouterr().out
    assert "loss_type: gmpo" in (run.folder / "config.until_step_000002.yaml").read_text()


def test_a_reference_with_another_frozen_vit_looks_for_itself(make_config, tmp_path):
    """A run may start from the checkpoint of one that began with another model: its KL is against its own
    start.
    """
    frozen = ["worker.actor.model.freeze_vision_tower=true", "trainer.max_steps=1", "trainer.val_freq=-1"]
    other = f"worker.actor.model.model_path={save_tiny(tmp_path / 'other', seed=1)}"
    saved = train(make_config(*frozen, other, f"trainer.save_checkpoint_path={tmp_path / 'first'}"))
    config = make_config(*frozen, "algorithm.disable_kl=false", "algorithm.use_kl_loss=true")
    processor = load_configured_processor(config)
    engine = LocalEngine(config, processor, saved.checkpoint(1))
    prompts = load_split(config, str(config.data.train_files), processor).encode([0, 1])
    ids_T = torch.tensor([7, 1, 9])
    groups = [Group(str(i), p, [Response(ids_T, torch.zeros(3), "", True, 0)]) for i, p in enumerate(prompts)]
    engine.log_probs(groups)  # the policy has looked
    found = engine.reference_log_probs(groups)
    start = LocalEngine(config, processor)
    torch.testing.assert_close(found, start.log_probs(groups).of, rtol=0, atol=1e-5)
    assert start.scoring_reference is start.policy


def test_the_last_step_is_always_saved(make_config, capsys):
    """As EasyR1 does: a run without save_freq would end without a model, and begin anew when called again."""
    settings = (
        "trainer.save_freq=-1",
        "trainer.val_freq=-1",
        "trainer.save_best=false",
        "trainer.max_steps=2",
    )
    run = train(make_config(*settings))
    assert run.checkpoint_steps() == [2]
    before = run.metrics_file.read_bytes()
    train(make_config(*settings))
    assert "the run is at its last step, 2: trainer.max_steps says more" in capsys.readouterr().out
    assert run.metrics_file.read_bytes() == before


def test_a_group_that_is_carried_over_a_kill_keeps_its_verdicts(tmp_path):
    example = Example("row 1", "How many?", "4")
    prompt = Prompt(example, "", torch.arange(3), (), torch.zeros(0, 3), torch.zeros(3, 3))
    responses = [Response(torch.arange(2), torch.zeros(2), "four", True, seed) for seed in (1, 2)]
    verdicts = [Verdict(True, "4", "integer", "equal", 0.1), None]
    group = Group("row 1#0", prompt, responses, [{"overall": 1.0}] * 2, verdicts)
    torch.save({"surplus": [group_state(group)]}, tmp_path / "state.pt")
    (values,) = read_saved(tmp_path / "state.pt")["surplus"]
    rows = SimpleNamespace(encode_by_id={"row 1": prompt}.__getitem__)
    assert group_from(values, rows).verdicts == verdicts
    del values["verdicts"]  # as in a checkpoint of an earlier version
    assert group_from(values, rows).verdicts == [None, None]
