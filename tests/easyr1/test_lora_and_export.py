"""LoRA over EasyR1's FSDP, and what comes out of a sharded checkpoint."""

import os
from dataclasses import asdict

import pytest
import torch

pytest.importorskip("verl", reason="EasyR1 is not installed: make test-easyr1 EASYR1_HOME=FOLDER")

from ranks import make_groups, run_ranks, start_worker

from gmpo_vl.engines.checkpoint import STATE
from gmpo_vl.engines.easyr1.export import TrainedAnswers, export, trained_answers, whole_weights
from gmpo_vl.engines.easyr1.serialisation import answers_of, groups_to_proto, prompts_to_proto, taken_apart
from gmpo_vl.models.loading import copy_without_weights, load_model
from gmpo_vl.models.processing import load_processor
from gmpo_vl.setup import sampling_of
from gmpo_vl.storage.manifest import measured, write_manifest

LORA = [
    "worker.actor.model.lora.rank=4",
    "worker.actor.model.lora.exclude_modules='.*visual.*'",
    "algorithm.disable_kl=false",
    "algorithm.use_kl_loss=true",
]


def train_and_save(rank, world, config, groups, folder):
    """One update, then log-probs, the starting model's too, answers, and the shards on the disk."""
    worker = start_worker(config, double=False)
    tokens = [1 for group in groups for _ in group.responses]

    def mine():
        data = groups_to_proto(groups, lr=0.1, way="shared", global_token_num=tokens)
        return data.chunk(world)[rank]

    before = worker.compute_log_probs(mine()).batch["old_log_probs"]
    reference = before
    if worker._has_ref:
        reference = worker.compute_ref_log_probs(mine()).batch["ref_log_probs"]
        for group in groups:
            group.ref_log_probs = list(group.old_log_probs)
    worker.update_actor(mine())
    after = worker.compute_log_probs(mine()).batch["old_log_probs"]
    worker.prepare_rollout_engine()
    asked = prompts_to_proto([g.prompt for g in groups], range(len(groups)), sampling_of(config), world)
    answers = answers_of(worker.generate_sequences(asked.chunk(world)[rank]))
    worker.release_rollout_engine()
    worker.save_checkpoint(f"{folder}/actor")
    return before, reference, after, [len(answer) for answer in answers]


def checkpoint_of(config, tmp_path):
    """Two ranks' checkpoint with its parity check; log-probs before, of the reference, after, per group."""
    groups = make_groups(config)
    found = run_ranks(2, train_and_save, config, groups, tmp_path / "checkpoint")
    before, reference, after = (torch.cat([of_rank[i] for of_rank in found]) for i in range(3))
    processor = load_processor(config.worker.actor.model.model_path)
    copy_without_weights(processor.folder, tmp_path / "checkpoint" / "actor" / "huggingface")
    (tmp_path / "checkpoint" / "trainer").mkdir()
    kept = taken_apart(groups[:3], after)
    trained_answers(groups[:3], kept, config.worker.rollout.temperature, "fp32").save(
        tmp_path / "checkpoint" / "trainer" / "parity.pt"
    )
    return before, reference, after, [answer for of_rank in found for answer in of_rank[3]]


def test_lora_trains_its_adapter_on_two_ranks_and_exports_both_ways(make_config, tmp_path):
    config = make_config("trainer.n_gpus_per_node=2", "data.rollout_batch_size=8", *LORA)
    before, reference, after, answers = checkpoint_of(config, tmp_path)
    torch.testing.assert_close(before, reference, rtol=0, atol=1e-5)  # adapters start at nothing
    assert (after - before).abs().max() > 1e-3
    assert all(count == 4 for count in answers)
    for name, adapter in (("merged", False), ("adapter", True)):
        assert export(tmp_path / "checkpoint", tmp_path / name, adapter).largest < 1e-3
        assert (tmp_path / name / "adapter_config.json").exists() is adapter
        assert load_model(tmp_path / name) is not None


def test_an_export_is_the_trained_model_to_rounding(make_config, tmp_path):
    config = make_config("trainer.n_gpus_per_node=2", "data.rollout_batch_size=8")
    before, _, after, _ = checkpoint_of(config, tmp_path)
    assert (after - before).abs().max() > 1e-2
    assert export(tmp_path / "checkpoint", tmp_path / "model").largest < 1e-4
    saved = load_model(tmp_path / "model").state_dict()
    for name, value in whole_weights(tmp_path / "checkpoint" / "actor").items():
        assert torch.equal(saved[name], value), name
    with pytest.raises(FileExistsError, match="name another folder"):
        export(tmp_path / "checkpoint", tmp_path / "model")
    with pytest.raises(ValueError, match="not trained with LoRA"):
        export(tmp_path / "checkpoint", tmp_path / "adapter", adapter=True)

    # The weights of the start in the place of one rank's: refused, and no folder of that name.
    parity = tmp_path / "checkpoint" / "trainer" / "parity.pt"
    kept = TrainedAnswers(**torch.load(parity, weights_only=True))
    kept.log_probs = [[row + 0.5 for row in of_group] for of_group in kept.log_probs]
    kept.save(parity)
    with pytest.raises(ValueError, match="not the trained one"):
        export(tmp_path / "checkpoint", tmp_path / "broken")
    assert not (tmp_path / "broken").exists()

    (tmp_path / "checkpoint" / "actor" / "model_world_size_2_rank_1.pt").unlink()
    with pytest.raises(ValueError, match="not of all 2"):
        export(tmp_path / "checkpoint", tmp_path / "half")


class Hostile:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def save_load_and_be_attacked(rank, world, config, folder):
    """This rank's files as it hashed them; are its weights, read back, what they were, and the optimizer's
    settings this run's? What it says to a pickle.
    """
    worker = start_worker(config, double=False)
    files = {name: asdict(written) for name, written in worker.save_checkpoint(f"{folder}/actor").items()}
    before = [p.detach().clone() for p in worker.fsdp_module.parameters()]
    for p in worker.fsdp_module.parameters():
        p.data.zero_()
    for group in worker.optimizer.param_groups:
        group["weight_decay"] = 0.25  # as a run that goes on asks for
    worker.load_checkpoint(f"{folder}/actor")
    same = all(torch.equal(a, b) for a, b in zip(before, worker.fsdp_module.parameters()))
    same = same and all(group["weight_decay"] == 0.25 for group in worker.optimizer.param_groups)
    path = folder / "actor" / f"extra_state_world_size_{world}_rank_{rank}.pt"
    extra = torch.load(path, weights_only=False)
    torch.save({**extra, "rng": Hostile(folder / f"ran_{rank}")}, path)
    try:
        worker.load_checkpoint(f"{folder}/actor")
    except ValueError as error:
        return files, same, str(error)
    return files, same, "nothing was said"


def test_ranks_hash_what_they_write_and_run_nothing_of_what_they_read(make_config, tmp_path):
    config = make_config("trainer.n_gpus_per_node=2", "data.rollout_batch_size=8")
    for rank, (files, same, said) in enumerate(run_ranks(2, save_load_and_be_attacked, config, tmp_path)):
        assert sorted(files) == [
            f"{kind}_world_size_2_rank_{rank}.pt" for kind in ("extra_state", "model", "optim")
        ]
        for name in files:
            if "extra" not in name:
                assert files[name] == asdict(measured(tmp_path / "actor" / name))
        assert same
        assert "nothing of it was run" in said
        assert "posix" in said
    assert not list(tmp_path.glob("ran_*"))


def test_a_damaged_shard_is_no_export(make_config, tmp_path):
    config = make_config("trainer.n_gpus_per_node=2", "data.rollout_batch_size=8")
    checkpoint_of(config, tmp_path)
    state = {**dict.fromkeys(STATE), "step": 1, "resumable": True, "manifest": True}
    torch.save(state, tmp_path / "checkpoint" / "trainer" / "state.pt")
    write_manifest(tmp_path / "checkpoint", {})
    shard = tmp_path / "checkpoint" / "actor" / "model_world_size_2_rank_1.pt"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"actor/model_world_size_2_rank_1\.pt is not what was saved"):
        export(tmp_path / "checkpoint", tmp_path / "model")
    (tmp_path / "checkpoint" / "manifest.json").unlink()
    torch.save({key: state[key] for key in STATE}, tmp_path / "checkpoint" / "trainer" / "state.pt")
    with pytest.raises(
        ValueError, match=r"actor/model_world_size_2_rank_1\.pt is not what was saved .* another CRC"
    ):
        export(tmp_path / "checkpoint", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def broken_gradient(rank, world, config, groups):
    worker = start_worker(config, double=False)
    tokens = [1 for group in groups for _ in group.responses]

    def update():
        data = groups_to_proto(groups, lr=0.1, way="shared", global_token_num=tokens)
        return worker.update_actor(data).non_tensor_batch

    for group in groups[:4]:  # of two mini-batches in four
        group.advantages_G = group.advantages_G * float("nan")
    skipped = float(update()["actor/skipped_updates"][0])
    for group in groups:
        group.advantages_G = group.advantages_G * float("nan")
    try:
        update()
    except FloatingPointError as error:
        return skipped, str(error)
    return skipped, "nothing was said"


def test_a_non_finite_update_is_counted_and_a_step_of_them_ends_the_run(make_config):
    config = make_config("worker.actor.global_batch_size=2", "data.rollout_batch_size=8")
    [(skipped, sentence)] = run_ranks(1, broken_gradient, config, make_groups(config))
    assert skipped == 2  # of four, where EasyR1 prints a line
    assert "every update of this step had a non-finite gradient" in sentence
