"""EasyR1's actor on one rank: with this project's passes, or unchanged for EasyR1's own losses."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from torch.optim import Optimizer
from verl.protocol import DataProto
from verl.workers.actor.dp_actor import DataParallelPPOActor

from gmpo_vl.batching.planning import Row, rows_of
from gmpo_vl.config import Config
from gmpo_vl.engines.easyr1.serialisation import as_objects, groups_of, joined
from gmpo_vl.engines.losses import loss_mask, objective_of
from gmpo_vl.engines.passes import log_probs_by_group
from gmpo_vl.engines.policy import Policy, set_learning_rate
from gmpo_vl.engines.updates import update_policy
from gmpo_vl.models.families import response_positions
from gmpo_vl.models.families.qwen import make_patches
from gmpo_vl.models.processing import Processor
from gmpo_vl.policy import RolloutMismatch
from gmpo_vl.types import Group, Prompt


class _Actor(DataParallelPPOActor):
    """EasyR1's own. One row of what its methods are given is a group (serialisation.py).

    policy: the same module, with how it computes. actor_optimizer: None for the reference policy. beside:
    what passes.LogProbs says beside the log-probs, a row a group, for the worker to send.
    """

    def __init__(
        self, config: Any, policy: Policy, run: Config, actor_optimizer: Optimizer | None = None
    ) -> None:
        super().__init__(config, policy.model, actor_optimizer)
        self.policy, self.run = policy, run
        self.beside: dict[str, torch.Tensor] = {}


class GMPOActor(_Actor):
    """Every objective of gmpo_vl.policy, or a user's."""

    def __init__(
        self, config: Any, policy: Policy, run: Config, actor_optimizer: Optimizer | None = None
    ) -> None:
        super().__init__(config, policy, run, actor_optimizer)
        objective_of(policy, run)  # a user's file is read now, and not again

    @torch.no_grad()
    def compute_log_prob(self, data: DataProto) -> torch.Tensor:
        """log pi of every response: float32 (groups, L), as serialisation.joined puts them. A collective."""
        groups = groups_of(data)
        self.policy.way = data.meta_info["way"]
        found = log_probs_by_group(self.policy, self.policy.model, groups, self.run)
        self.beside = {} if found.entropy_N is None else {"entropy": found.entropy_N}
        if found.routing is not None:
            self.beside["routing"] = found.routing.sums_NS
        return joined(found.of, data)

    def update_policy(self, data: DataProto) -> dict[str, float]:
        """The step's updates. Every rank returns the same figures, of the whole step. A collective."""
        self.policy.way = data.meta_info["way"]
        set_learning_rate(self.actor_optimizer, data.meta_info["lr"])
        metrics = update_policy(
            self.policy,
            self.actor_optimizer,
            groups_of(data),
            self.run,
            noise_step=data.meta_info.get("noise_step"),
        )
        self.actor_optimizer.zero_grad()  # vLLM, which wakes next, wants the memory
        return metrics


class EasyR1LossActor(_Actor):
    """EasyR1's own passes, for `loss_type: easyr1/NAME`: groups become the rows it knows.

    Its figures are means over micro-batches, as EasyR1 reports them. It has no entropies, of tokens or of
    routers.
    """

    # Set while the first mini-batch is under way and compared (as in updates.update_policy).
    first_update: RolloutMismatch | None = None

    def compute_log_prob(self, data: DataProto) -> torch.Tensor:
        """As GMPOActor's: float32 (groups, L)."""
        groups = groups_of(data)
        of_row = iter(super().compute_log_prob(self.rows(groups)).float())
        found = [[next(of_row)[: len(response.ids_T)] for response in group.responses] for group in groups]
        return joined(found, data)

    def update_policy(self, data: DataProto) -> dict[str, float]:
        """EasyR1's figures, and `rollout/mismatch_*` under `old_log_probs: rollout`. A collective."""
        set_learning_rate(self.actor_optimizer, data.meta_info["lr"])
        groups, mismatch = groups_of(data), None
        if self.run.worker.actor.old_log_probs == "rollout":
            mismatch = RolloutMismatch(self.policy.device)
            # EasyR1's rows do not say which were carried over. So a rank with such a group compares none.
            self.first_update = mismatch if all(group.fresh for group in groups) else None
        metrics = super().update_policy(self.rows(groups))
        means = {name: float(torch.tensor(values).double().mean()) for name, values in metrics.items()}
        return means | ({} if mismatch is None else mismatch.result())

    def _forward_micro_batch(self, micro_batch: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        log_probs_BT = super()._forward_micro_batch(micro_batch, temperature)
        if self.first_update is not None:
            old_BT, mask_BT = micro_batch["old_log_probs"], micro_batch["response_mask"]
            self.first_update.add(log_probs_BT.detach(), old_BT, mask_BT)
        return log_probs_BT

    def _optimizer_step(self) -> torch.Tensor:
        self.first_update = None
        return super()._optimizer_step()

    def rows(self, groups: Sequence[Group]) -> DataProto:
        assert all(response.turn is None for group in groups for response in group.responses)
        return to_rows(groups, self.run, self.policy.processor).to(self.policy.device)


def to_rows(groups: Sequence[Group], config: Config, processor: Processor) -> DataProto:
    """Groups as a batch of EasyR1's: one row per response, `max_prompt_length` + `max_response_length` long.

    Prompts are padded on the left, responses on the right.
    Position ids have four rows for models with mRoPE: EasyR1's counts of the text, then ours of time, height
    and width. Old and reference log-probs and advantages come along where the groups have them.
    """
    rows = rows_of(groups)
    longest_P, longest_T = config.data.max_prompt_length, config.data.max_response_length

    def left(prompts: list[torch.Tensor], fill: int = 0) -> torch.Tensor:
        return torch.stack([pad(x_P, (longest_P - len(x_P), 0), value=fill) for x_P in prompts])

    def right(responses: list[torch.Tensor], fill: int = 0) -> torch.Tensor:
        return torch.stack([pad(x_T, (0, longest_T - len(x_T)), value=fill) for x_T in responses])

    prompts, responses = [row.group.prompt.ids_P for row in rows], [row.ids_T for row in rows]
    prompts_BP, responses_BT = left(prompts, processor.pad_id), right(responses, processor.pad_id)
    attended_BP = left([torch.ones_like(x_P) for x_P in prompts])
    attended_BT = right([torch.ones_like(x_T) for x_T in responses])
    tensors = {
        "responses": responses_BT,
        "input_ids": torch.cat([prompts_BP, responses_BT], dim=1),
        "attention_mask": torch.cat([attended_BP, attended_BT], dim=1),
        "position_ids": torch.stack([_positions(row, longest_P, longest_T, processor) for row in rows]),
        "response_mask": right([loss_mask(row, config).long() for row in rows]),
    }
    if groups[0].old_log_probs:
        tensors["old_log_probs"] = right([row.group.old_log_probs[row.k] for row in rows])
    if groups[0].ref_log_probs:
        tensors["ref_log_probs"] = right([row.group.ref_log_probs[row.k] for row in rows])
    if groups[0].advantages_G is not None:
        advantages_B1 = torch.stack([row.advantage for row in rows])[:, None].float()
        tensors["advantages"] = advantages_B1 * tensors["response_mask"]
    pictures = {group.key: _pictures(group.prompt, processor) for group in groups}
    return DataProto.from_dict(
        tensors=tensors,
        non_tensors={"multi_modal_inputs": as_objects([pictures[row.group.key] for row in rows])},
        meta_info={"temperature": config.worker.rollout.temperature},
    )


def _positions(row: Row, longest_P: int, longest_T: int, processor: Processor) -> torch.Tensor:
    """int64 (L,), or (4, L) for models with an image processor; padding is at 0."""
    prompt = row.group.prompt
    before = (longest_P - len(prompt.ids_P), 0)
    space_3L = torch.cat(
        [pad(prompt.position_ids_3P, before), response_positions(prompt.position_ids_3P, longest_T)], dim=1
    )
    text_L = pad(torch.arange(len(prompt.ids_P) + longest_T), before)
    return text_L if processor.image is None else torch.cat([text_L[None], space_3L])


def _pictures(prompt: Prompt, processor: Processor) -> dict[str, torch.Tensor]:
    """What the image processor would give EasyR1: equal to the bit (models/processing.py)."""
    if not prompt.images or processor.image is None:
        return {}
    patches = torch.cat([make_patches(image, processor.image) for image in prompt.images])
    return {"pixel_values": patches, "image_grid_thw": prompt.image_grid_thw}
