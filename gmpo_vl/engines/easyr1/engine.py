"""EasyR1's trainer as a session.Engine: what a step asks of the GPUs, as methods on groups.

EasyR1's own `fit` is not used. It truncates logs on resume, deletes an old checkpoint before the new one is
written, starts fresh where a checkpoint path is wrong, and scatters the rollouts of a prompt over ranks.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import ray
import torch
from ray.exceptions import RayError
from verl.protocol import DataProto
from verl.trainer.config import PPOConfig
from verl.trainer.ray_trainer import RayPPOTrainer, ResourcePoolManager, Role

from gmpo_vl.batching.planning import Row, mini_batches, rows_of
from gmpo_vl.config import Config
from gmpo_vl.engines.easyr1.checkpoint import check_whole
from gmpo_vl.engines.easyr1.export import trained_answers
from gmpo_vl.engines.easyr1.limits import easyr1_loss
from gmpo_vl.engines.easyr1.serialisation import (
    answers_of,
    filled_up,
    groups_to_proto,
    prompts_to_proto,
    taken_apart,
)
from gmpo_vl.engines.parity import MISMATCH, Parity
from gmpo_vl.engines.passes import LogProbs
from gmpo_vl.engines.perception import update_passes
from gmpo_vl.engines.updates import trained_rows
from gmpo_vl.models.loading import copy_without_weights
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.models.routers import Routing
from gmpo_vl.models.shared import first_way, is_known
from gmpo_vl.setup import configured_model, vision_is_frozen
from gmpo_vl.sizing.cost import rates
from gmpo_vl.sizing.ranks import deal, group_cost, group_operations
from gmpo_vl.storage.manifest import Written
from gmpo_vl.types import Group, Prompt, Sampling

POOL = "gpus"


class GMPOTrainer(RayPPOTrainer):
    """The worker processes of a run. EasyR1's DataProto travels to them and back (serialisation.py)."""

    def __init__(self, easyr1: PPOConfig, run: Config, prompts: PromptSet, worker_class: type) -> None:
        gpus = {POOL: [run.trainer.n_gpus_per_node] * run.trainer.nnodes}
        super().__init__(
            config=easyr1,
            tokenizer=prompts.processor.tokenizer,
            processor=None,
            train_dataloader=prompts,
            val_dataloader=None,
            role_worker_mapping={Role.ActorRolloutRef: ray.remote(worker_class)},
            resource_pool_manager=ResourcePoolManager(gpus, {Role.ActorRolloutRef: POOL}),
        )
        self.run = run
        self.model_config = configured_model(run)
        # EasyR1's own losses go its own way.
        self.known = is_known(self.model_config)
        self.can_share = easyr1_loss(run) is None and self.known
        asked = run.worker.actor.share_prefix if self.can_share else "never"
        self.way = first_way(self.model_config, asked)
        self.processor_folder = prompts.processor.folder
        self.answers: list[Group] = []
        self.rates = rates(self.model_config)

    @property
    def ranks(self) -> int:
        return self.actor_rollout_ref_wg.world_size

    @contextmanager
    def sampler(self) -> Iterator[None]:
        """The rollout engine awake, with the policy's weights of now."""
        self.actor_rollout_ref_wg.prepare_rollout_engine()
        with _afterwards(self.actor_rollout_ref_wg.release_rollout_engine):
            yield

    @contextmanager
    def keeping_features(self) -> Iterator[None]:
        with _afterwards(self.actor_rollout_ref_wg.forget_features):
            yield

    def generate(
        self,
        prompts: Sequence[Prompt],
        positions: Sequence[int],
        sampling: Sampling,
        progress: Callable[[int], None],
    ) -> list[Group]:
        asked = prompts_to_proto(prompts, positions, sampling, self.ranks)
        answers = answers_of(self.actor_rollout_ref_wg.generate_sequences(asked))
        progress(len(prompts))
        return [
            Group(f"{prompt.example.id}@{position}", prompt, responses)
            for prompt, position, responses in zip(prompts, positions, answers)
        ]

    def check_parity(self, groups: Sequence[Group]) -> Parity:
        return self.actor_rollout_ref_wg.check_parity(groups_to_proto(filled_up(groups, self.ranks)))[0]

    def log_probs(self, groups: Sequence[Group]) -> LogProbs:
        """log pi of the current policy. EasyR1's own losses know no entropies, of tokens or of routers."""
        if not groups:
            return LogProbs([], None)
        found = self._scored(self.actor_rollout_ref_wg.compute_log_probs, groups)
        entropy_N, routing_NS = found.get("entropy"), found.get("routing")
        routing = None if routing_NS is None else Routing(self.model_config, routing_NS)
        return LogProbs(taken_apart(groups, found["old_log_probs"]), entropy_N, routing)

    def reference_log_probs(self, groups: Sequence[Group]) -> list[list[torch.Tensor]]:
        found = self._scored(self.actor_rollout_ref_wg.compute_ref_log_probs, groups)
        return taken_apart(groups, found["ref_log_probs"])

    def _scored(
        self, ask: Callable[[DataProto], DataProto], groups: Sequence[Group]
    ) -> dict[str, torch.Tensor]:
        """What the workers find, a row a group.

        Groups are dealt by all of their rows, as in an update that trains on all: a rank keeps features of
        pictures, and needs them again there.
        """
        filled = filled_up(groups, self.ranks)
        order = self.in_order_of_ranks([rows_of([group]) for group in filled])
        data = groups_to_proto([filled[i] for i in order], way=self.way)
        back_N = torch.tensor(order).argsort()[: len(groups)]
        return {name: rows[back_N] for name, rows in ask(data).batch.items()}

    def update(
        self, groups: Sequence[Group], lr: float, progress: Callable[[int], None], noise_step: int | None
    ) -> dict[str, float]:
        rows = [self._updated_rows(group) for group in groups]
        order = self.in_order_of_ranks(rows)
        shares, frozen = self.way == "shared", vision_is_frozen(self.run)
        data = groups_to_proto(
            [groups[i] for i in order],
            lr=lr,
            noise_step=noise_step,
            way=self.way,
            # What EasyR1 hands to the counter of operations (worker.py), by its own name.
            global_token_num=[
                update_passes(r, self.run) * group_operations(self.rates, r, shares, frozen) for r in rows
            ],
        )
        found = self.actor_rollout_ref_wg.update_actor(data).non_tensor_batch
        # Every rank reports the same of the step, but its own memory: the largest counts, not the mean.
        metrics = {name: float(max(values)) for name, values in found.items() if not name.startswith("perf/")}
        progress(self.run.worker.actor.ppo_epochs * sum(len(group.responses) for group in groups))
        n = self.run.worker.rollout.n  # of a prompt; a game's turns are hundreds, and the first are enough
        self.answers = [replace(group, responses=group.responses[:n]) for group in groups[: self.ranks]]
        if not self.config.worker.cpu:
            metrics["memory/device_peak"] = float(max(found["perf/max_memory_allocated_gb"]))
            metrics["perf/mfu_actor"] = float(max(found["perf/mfu_actor"]))
        return metrics

    def _updated_rows(self, group: Group) -> list[Row]:
        """What an update runs of a group; EasyR1's own losses run everything."""
        return trained_rows(group, self.run) if easyr1_loss(self.run) is None else rows_of([group])

    def in_order_of_ranks(self, rows: Sequence[Sequence[Row]]) -> list[int]:
        """Indices of the groups: those of the first rank, of the second, ... rows: what is run of each group.

        Mini-batches are cut before they are dealt to ranks: which groups an update sees does not depend on
        the number of ranks. A rank's groups keep the order of the mini-batches. In each mini-batch every rank
        gets as many groups and about as much work.
        """
        checkpointing = self.run.worker.actor.model.enable_gradient_checkpointing
        shares, frozen = self.way == "shared", vision_is_frozen(self.run)
        dealt: list[list[int]] = [[] for _ in range(self.ranks)]
        start = 0
        for batch in mini_batches(rows, self.run.worker.actor.global_batch_size):
            costs = [
                update_passes(r, self.run) * group_cost(self.rates, r, shares, checkpointing, frozen)
                for r in batch
            ]
            for of_rank, indices in zip(dealt, deal(costs, self.ranks)):
                of_rank += [start + i for i in indices]
            start += len(batch)
        return [i for of_rank in dealt for i in of_rank]

    def tolerated_mismatch(self) -> dict[str, float]:
        """Nothing where vLLM's log-probs are those of a truncated distribution.

        The forward of EasyR1's own losses bans no tokens, as the sampler does: that is part of their gap.
        """
        rollout = self.run.worker.rollout
        if rollout.top_p < 1.0 or rollout.top_k > 0:
            return {}
        own_loss = easyr1_loss(self.run) is not None
        return {"rollout/mismatch_p50": max(MISMATCH.values()) if own_loss else MISMATCH[rollout.dtype]}

    def save(self, folder: Path, resumable: bool) -> dict[str, Written]:
        """Every rank's shard, and what an export must reproduce on some answers of the last update
        (export.py).

        Returns the shards as their ranks hashed them. Raises OSError where not every rank's files arrived.
        """
        of_ranks = self.actor_rollout_ref_wg.save_checkpoint(
            str((folder / "actor").absolute()), save_model_only=not resumable
        )
        check_whole(folder / "actor", self.ranks)
        copy_without_weights(self.processor_folder, folder / "actor" / "huggingface")
        (folder / "trainer").mkdir()
        temperature, dtype = self.run.worker.rollout.temperature, self.run.worker.actor.fsdp.mp_param_dtype
        kept = trained_answers(self.answers, self.log_probs(self.answers).of, temperature, dtype)
        kept.save(folder / "trainer" / "parity.pt")
        return {f"actor/{name}": written for files in of_ranks for name, written in files.items()}

    def load(self, folder: Path) -> None:
        self.actor_rollout_ref_wg.load_checkpoint(str(folder.absolute()))


@contextmanager
def _afterwards(ask_workers: Callable[[], object]) -> Iterator[None]:
    """Ask the workers after the block, also when the run is stopped; not when a worker failed.

    The others may then wait in a collective for the one that failed, and would never answer.
    """
    try:
        yield
    except RayError:
        raise
    except BaseException:
        ask_workers()
        raise
    ask_workers()
