"""What a step need not compute twice: pictures under a frozen ViT, the old policy's log-probs, shared
prompts.
"""

import threading

import pytest
import torch

from gmpo_vl import runs
from gmpo_vl.config import ConfigError
from gmpo_vl.engines import loop, parity
from gmpo_vl.engines.local.engine import LocalEngine, train
from gmpo_vl.engines.session import Prefetch
from gmpo_vl.models import features
from gmpo_vl.models.families import qwen
from gmpo_vl.models.loading import load_model


def weights(run, step):
    return dict(load_model(run.checkpoint(step) / "huggingface").named_parameters())


@pytest.fixture
def looked_at(monkeypatch):
    """Pictures that went through the ViT, one entry a call."""
    calls: list[int] = []
    real = qwen.image_features

    def counted(model, patches, grid_N3):
        calls.append(len(grid_N3))
        return real(model, patches, grid_N3)

    monkeypatch.setattr(qwen, "image_features", counted)
    return calls


def test_a_frozen_tower_looks_at_each_picture_once_a_step(make_config, tmp_path, looked_at, monkeypatch):
    settings = (
        "worker.actor.model.freeze_vision_tower=true",
        "worker.actor.share_prefix=always",
        "worker.actor.ppo_epochs=2",
        "trainer.max_steps=2",
        "trainer.val_before_train=false",
        "trainer.val_freq=-1",
        "algorithm.disable_kl=false",
        "algorithm.use_kl_loss=true",
        "algorithm.kl_penalty=low_var_kl",
    )
    once = train(make_config(*settings))
    assert sum(looked_at) == 2 * 4, (
        "4 prompts a step: rollouts, old, reference and 2 epochs of updates share them"
    )
    looked_at.clear()
    monkeypatch.setattr(features, "is_known", lambda config: False)
    again = train(make_config(*settings, f"trainer.save_checkpoint_path={tmp_path / 'again'}"))
    assert sum(looked_at) > 2 * 4 * 4
    first, second = weights(once, 2), weights(again, 2)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-5)


def test_rollout_log_probs_may_stand_for_the_old_policys(make_config, tmp_path, monkeypatch):
    settings = ("trainer.val_before_train=false", "trainer.val_freq=-1")
    plain = train(make_config(*settings))
    passes, log_probs = [], LocalEngine.log_probs
    monkeypatch.setattr(LocalEngine, "log_probs", lambda *of: passes.append(of) or log_probs(*of))
    taken = train(
        make_config(
            *settings,
            "worker.actor.old_log_probs=rollout",
            f"trainer.save_checkpoint_path={tmp_path / 'taken'}",
        )
    )
    assert len(passes) == 2  # of four steps
    for a, b in zip(plain.read_metrics(), taken.read_metrics()):
        assert a["actor/grad_norm"] == pytest.approx(b["actor/grad_norm"], rel=1e-3)
        assert a["actor/entropy"] == pytest.approx(b["actor/entropy"], rel=1e-4)
    assert all(line["rollout/mismatch_max"] < 1e-3 for line in taken.read_metrics())
    halves = ("worker.actor.old_log_probs=rollout", f"trainer.save_checkpoint_path={tmp_path / 'halves'}")
    train(make_config(*settings, *halves, "trainer.max_steps=2"))
    resumed = train(make_config(*settings, *halves))
    assert [line["actor/grad_norm"] for line in resumed.read_metrics()] == [
        line["actor/grad_norm"] for line in taken.read_metrics()
    ]


def test_rollout_log_probs_that_are_not_the_trainers_are_refused(make_config, monkeypatch):
    monkeypatch.setitem(parity.TOLERANCE, torch.float32, parity.Tolerance(0.0, 0.0, 0.0))
    with pytest.raises(ConfigError, match=r"mismatch_max: .* do not compute the same model"):
        train(make_config("worker.actor.old_log_probs=rollout", "worker.actor.share_prefix=never"))


def test_auto_shares_where_the_lengths_make_it_pay(make_config, tmp_path):
    def saved(name, *settings):
        run = train(
            make_config(
                "trainer.max_steps=1",
                "trainer.val_before_train=false",
                f"trainer.save_checkpoint_path={tmp_path / name}",
                *settings,
            )
        )
        return run.read_metrics()[-1]["batch/tokens_saved"]

    assert saved("whole") > 0.5
    alone = "worker.actor.micro_batch_size_per_device_for_update=1", "worker.actor.dynamic_batching=false"
    assert saved("alone", *alone) == 0.0
    assert saved("never", "worker.actor.share_prefix=never") == 0.0


def test_split_groups_are_counted(make_config):
    run = train(make_config("trainer.max_steps=2", "worker.actor.max_tokens_per_micro_batch=60"))
    assert max(line.get("batch/split_groups", 0.0) for line in run.read_metrics()) > 0


def test_the_next_prompts_are_made_ahead_and_their_errors_come_when_they_are_asked_for():
    asked = []

    def encode(position, count):
        asked.append((position, count))
        if position == 8:
            raise ValueError("row 8: no picture")
        return [position]

    ahead = Prefetch(encode)
    assert ahead(0, 4) == [0]
    assert ahead(4, 4) == [4]
    with pytest.raises(ValueError, match="row 8"):
        ahead(8, 4)
    assert ahead(20, 2) == [20]
    ahead.close()
    assert asked[:3] == [(0, 4), (4, 4), (8, 4)]


def test_pictures_are_written_while_the_policy_learns_and_before_what_names_them(
    make_config, tmp_path, monkeypatch
):
    settings = ("trainer.val_before_train=false", "trainer.val_freq=-1", "trainer.max_steps=2")
    plain = train(make_config(*settings))
    updated, real_update, real_store = threading.Event(), loop.update, runs.store_image

    def update(*arguments):
        found = real_update(*arguments)
        updated.set()
        return found

    def store_image(folder, pixels):
        assert updated.wait(60), "the update waits for the pictures"
        return real_store(folder, pixels)

    def write_rollouts(self, step, records, kind="step"):
        missing = [
            name for r in records for name in r.images if not (self.folder / f"images/{name}.webp").exists()
        ]
        assert missing == []
        updated.clear()
        real_write(self, step, records, kind)

    real_write = runs.Run.write_rollouts
    monkeypatch.setattr(loop, "update", update)
    monkeypatch.setattr(runs, "store_image", store_image)
    monkeypatch.setattr(runs.Run, "write_rollouts", write_rollouts)
    late = train(make_config(*settings, f"trainer.save_checkpoint_path={tmp_path / 'late'}"))
    for part in ("rollouts", "images"):
        first, second = (
            {p.name: p.read_bytes() for p in (run.folder / part).iterdir()} for run in (plain, late)
        )
        assert first == second != {}


def test_a_picture_that_cannot_be_written_ends_the_step_that_names_it(make_config, monkeypatch):
    def store_image(folder, pixels):
        raise OSError("no room")

    monkeypatch.setattr(runs, "store_image", store_image)
    config = make_config("trainer.val_before_train=false", "trainer.val_freq=-1")
    with pytest.raises(OSError, match="no room"):
        train(config)
    run = runs.Run(config.trainer.save_checkpoint_path)
    assert (run.rollout_steps(), run.read_metrics()) == ([], [])
