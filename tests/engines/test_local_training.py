"""The local engine trains: every option it takes does what it says."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from tiny_runs import BASE, settings_of_run

from gmpo_vl.cli import main
from gmpo_vl.config import ConfigError, load_config
from gmpo_vl.engines import losses
from gmpo_vl.engines.local.engine import build_policy, train
from gmpo_vl.engines.parity import check_parity
from gmpo_vl.engines.passes import log_probs_by_group
from gmpo_vl.engines.updates import update_policy
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.processing import encode_prompt
from gmpo_vl.rollout.hf import generate
from gmpo_vl.samples import SampleRecord
from gmpo_vl.setup import load_configured_processor
from gmpo_vl.storage.files import read_jsonl
from gmpo_vl.types import Example, Sampling


def last(run):
    return run.read_metrics()[-1]


def weights(folder):
    return dict(load_model(folder).named_parameters())


def test_a_step_trains_and_leaves_the_files_it_promises(make_config, tiny_folder):
    run = train(make_config())
    lines = run.read_metrics()
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    wanted = (
        "actor/pg_loss actor/grad_norm actor/ppo_kl reward/accuracy actor/ratio_max actor/ratio_min "
        "actor/entropy rollout/truncated group/zero_variance memory/host_rss time/step actor/lr "
        "rollout/mismatch_max"
    )
    assert set(wanted.split()) <= set().union(*lines[1:])  # a step of flat groups alone has no ratios
    assert {"val/accuracy", "val/truncated"} <= set(lines[2])
    assert lines[1]["rollout/mismatch_max"] < 1e-5
    records = [SampleRecord(**row) for row in read_jsonl(run.rollouts_file(1))]
    assert len(records) == 4 * 4
    assert all((run.folder / "images" / f"{digest}.webp").exists() for r in records for digest in r.images)
    assert run.checkpoint_steps() == [2, 4]
    before, after = weights(tiny_folder), weights(run.checkpoint(4) / "huggingface")
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_micro_batches_change_the_last_digits_only(make_config, tmp_path):
    runs = [
        train(
            make_config("trainer.max_steps=2", f"trainer.save_checkpoint_path={tmp_path / name}", *settings)
        )
        for name, settings in (
            ("whole", ()),
            ("single", ("worker.actor.micro_batch_size_per_device_for_update=1",)),
            ("tokens", ("worker.actor.max_tokens_per_micro_batch=150",)),
        )
    ]
    first, *others = [weights(run.checkpoint(2) / "huggingface") for run in runs]
    for other in others:
        for name, value in first.items():
            torch.testing.assert_close(value, other[name], rtol=0, atol=2e-5)
    for run in runs:
        assert last(run)["actor/grad_norm"] == pytest.approx(last(runs[0])["actor/grad_norm"], rel=1e-4)


def test_kl_and_entropy_enter_the_gradient(make_config, tmp_path):
    def norm(name, *settings):
        run = train(
            make_config("trainer.max_steps=2", f"trainer.save_checkpoint_path={tmp_path / name}", *settings)
        )
        return last(run)

    kl = ("algorithm.disable_kl=false", "algorithm.use_kl_loss=true", "algorithm.kl_penalty=low_var_kl")
    plain = norm("plain")
    with_kl = norm("kl", *kl, "algorithm.kl_coef=1.0")
    with_entropy = norm("entropy", "worker.actor.entropy_coef=0.5")
    assert with_kl["actor/kl_loss"] > 0
    assert with_kl["actor/grad_norm"] != plain["actor/grad_norm"]
    assert with_entropy["actor/grad_norm"] != plain["actor/grad_norm"]


def test_lora_trains_adapters_only_saves_them_and_resumes(make_config, tmp_path, tiny_folder):
    lora = ("worker.actor.model.lora.rank=4", "worker.actor.model.lora.exclude_modules=.*visual.*")
    kl = ("algorithm.disable_kl=false", "algorithm.use_kl_loss=true", "algorithm.kl_penalty=low_var_kl")
    run = train(make_config(*lora, *kl))
    folder = run.checkpoint(4) / "huggingface"
    assert (folder / "adapter_config.json").exists()
    assert last(run)["actor/kl_loss"] > 0, "the reference is the model without its adapters"
    merged, base = weights(folder), weights(tiny_folder)
    changed = [name for name in base if not torch.equal(base[name], merged[name])]
    assert changed
    assert not any("visual" in name for name in changed)

    train(
        make_config(*lora, *kl, f"trainer.save_checkpoint_path={tmp_path / 'halves'}", "trainer.max_steps=2")
    )
    halves = train(make_config(*lora, *kl, f"trainer.save_checkpoint_path={tmp_path / 'halves'}"))
    assert last(halves)["actor/grad_norm"] == last(run)["actor/grad_norm"]


def test_bf16_and_gradient_checkpointing_and_a_frozen_tower(make_config, tiny_folder):
    run = train(
        make_config(
            "worker.actor.fsdp.mp_param_dtype=bf16",
            "worker.actor.model.enable_gradient_checkpointing=true",
            "worker.actor.model.freeze_vision_tower=true",
            "trainer.max_steps=2",
        )
    )
    before, after = weights(tiny_folder), weights(run.checkpoint(2) / "huggingface")
    assert all(torch.equal(before[n], after[n]) for n in before if "visual" in n)
    assert any(not torch.equal(before[n], after[n]) for n in before)
    assert last(run)["actor/skipped_updates"] == 0


def test_a_frozen_tower_gets_no_adapters(make_config):
    lora = "worker.actor.model.lora.rank=2", "worker.actor.model.freeze_vision_tower=true"
    for more in ((), ("worker.actor.model.lora.exclude_modules=.*lm_head.*",)):
        config = make_config(*lora, *more)
        policy = build_policy(config, load_configured_processor(config))
        trained = [name for name, p in policy.model.named_parameters() if p.requires_grad]
        assert trained
        assert not any("visual" in name for name in trained)
        assert policy.features is not None


def test_adapters_in_the_tower_alone_train(make_config):
    target = r"worker.actor.model.lora.target_modules=.*visual.*(qkv|proj)"
    run = train(
        make_config("worker.actor.model.lora.rank=2", target, "trainer.max_steps=1", "trainer.save_freq=-1")
    )
    assert last(run)["batch/tokens_saved"] > 0


def test_adapters_in_the_tower_alone_are_not_moved_by_text(make_config):
    target = r"worker.actor.model.lora.target_modules=.*visual.*(qkv|proj)"
    config = make_config("worker.actor.model.lora.rank=2", target, "worker.actor.share_prefix=always")
    processor = load_configured_processor(config)
    policy = build_policy(config, processor)
    texts = [encode_prompt(Example(str(i), f"What is {i} + 2?", "3"), processor) for i in range(2)]
    groups = generate(policy.model, processor, texts, Sampling(n=2, max_tokens=4))
    for group in groups:
        group.advantages_G = torch.tensor([1.0, -1.0])
    for group, of_group in zip(groups, log_probs_by_group(policy, policy.model, groups, config).of):
        group.old_log_probs = of_group
    assert check_parity(policy, groups, config).holds
    optimizer = torch.optim.SGD([p for p in policy.model.parameters() if p.requires_grad], lr=1.0)
    assert update_policy(policy, optimizer, groups, config)["actor/grad_norm"] == 0.0


def test_one_target_of_adapters_is_a_name_and_not_a_pattern(make_config):
    config = make_config("worker.actor.model.lora.rank=2", "worker.actor.model.lora.target_modules=q_proj")
    policy = build_policy(config, load_configured_processor(config))
    trained = [name for name, p in policy.model.named_parameters() if p.requires_grad]
    assert trained
    assert all(".q_proj." in name for name in trained)


def test_targets_that_can_have_no_adapter_are_told_without_the_whole_model(make_config):
    config = make_config("worker.actor.model.lora.rank=2", "worker.actor.model.lora.target_modules=.*")
    with pytest.raises(
        ConfigError, match=r"target_modules: \.\* cannot get adapters: .* not supported"
    ) as caught:
        build_policy(config, load_configured_processor(config))
    assert len(str(caught.value)) < 600


def test_a_step_is_filled_whatever_the_tries(make_config):
    run = train(
        make_config(
            "algorithm.online_filtering=true",
            "data.mini_rollout_batch_size=1",
            "trainer.max_try_make_batch=1",
            "trainer.max_steps=1",
        )
    )
    assert len(run.read_rollouts(1)) == 4 * 4


def test_one_update_that_is_no_number_is_left_out_of_the_figures(make_config, monkeypatch):
    """Two updates a step: of the first the loss is NaN, the figures are the second's."""
    real, calls = losses.per_sequence_loss, []

    def broken_once(*args, **kwargs):
        result = real(*args, **kwargs)
        calls.append(result)
        scale = float("nan") if len(calls) == 1 else 1.0
        return dataclasses.replace(result, loss_B=result.loss_B * scale)

    monkeypatch.setattr(losses, "per_sequence_loss", broken_once)
    whole = (
        "worker.actor.micro_batch_size_per_device_for_update=64",
        "trainer.max_steps=1",
        "worker.rollout.n=12",
    )
    metrics = last(train(make_config(*whole, "trainer.val_before_train=false", "trainer.val_freq=-1")))
    assert metrics["actor/skipped_updates"] == 1.0
    assert len(calls) == 2
    assert all(math.isfinite(value) for name, value in metrics.items() if name.startswith("actor/"))


def test_gradients_that_are_no_numbers_are_said_in_words(make_config, monkeypatch):
    real = losses.per_sequence_loss

    def broken(*arguments, **settings):
        found = real(*arguments, **settings)
        return dataclasses.replace(found, loss_B=found.loss_B * float("nan"))

    monkeypatch.setattr(losses, "per_sequence_loss", broken)
    with pytest.raises(FloatingPointError, match="every update of this step had a non-finite gradient"):
        train(make_config("worker.actor.global_batch_size=4"))  # the first steps are flat


def test_gradient_checkpointing_changes_nothing(make_config, tmp_path):
    runs = [
        train(
            make_config(
                f"worker.actor.model.enable_gradient_checkpointing={value}",
                "trainer.max_steps=1",
                "trainer.save_freq=1",
                f"trainer.save_checkpoint_path={tmp_path / value}",
            )
        )
        for value in ("true", "false")
    ]
    a, b = (weights(run.checkpoint(1) / "huggingface") for run in runs)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-6)


# Of 64 answers a step some 5 end before the limit: with a few less or more there are still both kinds.
CUT = [
    *("trainer.max_steps=2", "data.max_response_length=24", "worker.rollout.n=16"),
    *("trainer.val_freq=-1", "trainer.val_before_train=false", "trainer.save_freq=-1"),
]


@pytest.fixture(scope="module")
def norms_of_cut_answers(tmp_path_factory, diagrams, tiny_folder) -> list[float]:
    folder = tmp_path_factory.mktemp("cut")
    (folder / "run.yaml").write_text(BASE)
    run = train(load_config(folder / "run.yaml", [*settings_of_run(folder, diagrams, tiny_folder), *CUT]))
    return [line["actor/grad_norm"] for line in run.read_metrics()]


@pytest.mark.parametrize(("mode", "changed"), [("mask", True), ("soft", True), ("score", False)])
def test_overlong_responses(mode, changed, make_config, norms_of_cut_answers):
    buffer = ["algorithm.overlong_buffer=20"] if mode == "soft" else []
    lines = train(make_config(*CUT, *buffer, f"algorithm.overlong_responses={mode}")).read_metrics()
    assert all(0 < line["rollout/truncated"] < 1 for line in lines)
    assert ([line["actor/grad_norm"] for line in lines] != norms_of_cut_answers) == changed
    assert all(line.get("reward/overlong", 0) < 0 for line in lines) == (mode == "soft")


def test_filtering_that_never_finds_enough_goes_on_with_what_there_is(make_config, tmp_path):
    (tmp_path / "zero.py").write_text(
        "def compute_score(i):\n    return [{'overall': 0.0, 'accuracy': 0.0} for _ in i]\n"
    )
    run = train(
        make_config(
            f"worker.reward.reward_function={tmp_path / 'zero.py'}:compute_score",
            "algorithm.online_filtering=true",
            "trainer.max_try_make_batch=3",
            "trainer.max_steps=1",
        )
    )
    assert last(run)["filter/tries"] == 3
    assert last(run)["filter/generated_prompts"] == 12
    assert last(run)["group/zero_variance"] == 1.0
    assert last(run)["actor/grad_norm"] == 0.0


def test_the_best_checkpoint_outlives_the_limit(make_config):
    run = train(make_config("trainer.save_freq=1", "trainer.save_limit=1", "trainer.val_freq=1"))
    best = json.loads((run.checkpoints / "best.json").read_text())["step"]
    assert set(run.checkpoint_steps()) == {best, 4}
    accuracies = {line["step"]: line["val/accuracy"] for line in run.read_metrics() if line["step"] > 0}
    assert accuracies[best] == max(accuracies.values())


def test_a_broken_picture_is_named_or_skipped(make_config, tmp_path, capsys):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pq.read_table(make_config().data.train_files).to_pylist()
    rows[3]["images"][0]["bytes"] = rows[3]["images"][0]["bytes"][:200]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "broken.parquet")
    files = f"data.train_files={tmp_path / 'broken.parquet'}"
    with pytest.raises(ValueError, match=r"broken.parquet, row 3 .*image_unreadable"):
        train(make_config(files))
    run = train(make_config(files, "data.on_bad_row=skip", "trainer.max_steps=1"))
    assert "1 bad row: image_unreadable 1" in capsys.readouterr().out
    assert len((run.folder / "train.bad_rows.jsonl").read_text().splitlines()) == 1


def test_overlong_prompts_are_dropped_or_fatal_never_cut(make_config):
    with pytest.raises(ValueError, match="prompt_too_long"):
        train(make_config("data.max_prompt_length=20", "data.filter_overlong_prompts=false"))
    with pytest.raises(ValueError, match="no usable row is left"):
        train(make_config("data.max_prompt_length=20"))


def test_dry_run_prints_the_plan_and_writes_nothing(config_file, overrides, make_config, capsys):
    assert main(["train", "--dry-run", str(config_file), *overrides]) == 0
    out = capsys.readouterr().out
    assert "4 prompts x 4 = 16 rollouts, 2 updates of 2 prompts (8 rollouts)" in out
    assert "24 prompts with 24 pictures" in out
    assert not Path(make_config().trainer.save_checkpoint_path).exists()


def test_validation_on_training_rows_is_told_and_runs(config_file, overrides, diagrams, tmp_path, capsys):
    train_files, copy = diagrams / "train.parquet", tmp_path / "copy.parquet"
    copy.write_bytes(train_files.read_bytes())
    said = "which is data.train_files too, or a copy"
    for files, told in ((train_files, True), (copy, True), (diagrams / "validation.parquet", False)):
        assert main(["train", "--dry-run", str(config_file), *overrides, f"data.val_files={files}"]) == 0
        assert (f"WARNING: data.val_files is {files}, {said}" in capsys.readouterr().out) is told
    short = [f"data.val_files={copy}", "trainer.max_steps=1", "trainer.save_freq=-1"]
    assert main(["train", str(config_file), *overrides, *short]) == 0
    assert f"WARNING: data.val_files is {copy}, {said}" in capsys.readouterr().out


def test_dry_run_meets_what_the_run_would(config_file, overrides, tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    for override, said in (
        (f"trainer.save_checkpoint_path={tmp_path / 'taken' / 'run'}", "taken is a file, not a folder"),
        (
            "worker.actor.model.override_config={no_such_key: 1}",
            "override_config: Qwen2_5_VLConfig has no 'no_such_key'",
        ),
    ):
        assert main(["train", "--dry-run", str(config_file), *overrides, override]) == 2
        assert said in capsys.readouterr().err


def test_a_wrong_setting_is_a_sentence_not_a_traceback(config_file, overrides, capsys):
    assert main(["train", str(config_file), *overrides, "worker.rolout.n=8"]) == 2
    assert "worker.rollout.n" in capsys.readouterr().err


def test_kl_to_start_begins_at_nothing_grows_and_survives_a_resume(make_config, tmp_path):
    settings = ("trainer.kl_to_start_freq=1", "trainer.kl_to_start_prompts=4")
    whole = train(make_config(*settings, f"trainer.save_checkpoint_path={tmp_path / 'whole'}"))
    train(make_config(*settings, "trainer.max_steps=2"))
    halves = train(make_config(*settings))
    curves = [[line["actor/kl_to_start"] for line in run.read_metrics()[1:]] for run in (whole, halves)]
    assert curves[0] == curves[1]
    assert 0 < curves[0][0] < curves[0][-1]


def test_a_shared_forward_that_fails_its_proof_is_not_used(make_config, tmp_path, monkeypatch, capsys):
    from gmpo_vl.models import forward

    plain = train(
        make_config("worker.actor.share_prefix=never", f"trainer.save_checkpoint_path={tmp_path / 'plain'}")
    )
    real = forward.response_positions
    shared = forward._shared_hidden

    def wrong_positions(*given):
        monkeypatch.setattr(forward, "response_positions", lambda prompt, length: real(prompt, length) + 40)
        hidden = shared(*given)
        monkeypatch.setattr(forward, "response_positions", real)
        return hidden

    monkeypatch.setattr(forward, "_shared_hidden", wrong_positions)
    run = train(make_config())
    assert "WARNING: the shared forward is wrong here" in capsys.readouterr().out
    assert last(run)["actor/grad_norm"] == pytest.approx(last(plain)["actor/grad_norm"], rel=1e-5)


def test_val_only_shows_figures_and_changes_nothing(make_config, capsys):
    run = train(make_config("trainer.max_steps=2"))
    before = run.metrics_file.read_bytes()
    train(make_config("trainer.val_only=true", "trainer.logger=[console]"))
    assert f"step 2  validation {last(run)['val/accuracy']:.3f}" in capsys.readouterr().out
    assert run.metrics_file.read_bytes() == before
    assert run.checkpoint_steps() == [2]
