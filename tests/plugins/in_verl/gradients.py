"""The gradient of one mini-batch of 8 by verl's ActorRolloutRefWorker (FSDP2, gloo), cut in every way.

python gradients.py KIND MODEL OUT, with RANK and WORLD_SIZE as torchrun sets them. OUT gets
{loss: {cut: (gradient, metrics)}} of rank 0.
"""

import os
import sys
from functools import partial

import torch
import torch.distributed as dist
import verl_on_cpu
from settings import ACTOR, LOSS, ON_CPU, composed, loss_options
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.engine_workers import ActorRolloutRefWorker
from verl.workers.utils.losses import ppo_loss
from verl.workers.utils.padding import left_right_2_no_padding, no_padding_2_padding

from gmpo_vl.policy.objectives import OBJECTIVES

ROWS, PROMPT, RESPONSE = 8, 24, 20
LENGTHS = torch.tensor([20, 3, 7, 15, 2, 11, 18, 5])
GRIDS = ((4, 4), (4, 6), (2, 2))  # patches of a picture, height and width
PAD = 0
OWN = """
def loss(log_probs_BT, old_log_probs_BT, mask_BT, advantages_B, low=0.4, high=0.4):
    ratio_BT = (log_probs_BT - old_log_probs_BT).clamp(-low, high).exp() * mask_BT
    lengths_B = mask_BT.sum(-1)
    return -advantages_B * ratio_BT.sum(-1) / lengths_B.clamp(min=1), lengths_B
"""


def losses(folder: str) -> dict[str, tuple[str, ...]]:
    """verl's arguments of each loss that is measured."""
    own = os.path.join(folder, "own_objective.py")
    with open(own, "w", encoding="utf-8") as file:
        file.write(OWN)
    found = {"geo_mean": (f"{LOSS}.loss_mode=geo_mean",)}
    options = {"power_mean": {"mean_power": 0.5}, "dr_grpo": {"length_constant": 20}}
    for name in OBJECTIVES:
        found[name] = loss_options(f"gmpo_vl/{name}", **options.get(name, {}))
    found["gmpo, asymmetric"] = loss_options("gmpo_vl/gmpo", log_clip_low=0.1, log_clip_high=0.7)
    found["own"] = loss_options(f"gmpo_vl/{own}:loss", **{"options.high": 0.3})
    return found


def rows(kind: str, config) -> dict:
    """Prompts on the right, responses on the left of their columns; pictures where the model reads them."""
    draw = torch.Generator().manual_seed(0)
    width = PROMPT + RESPONSE
    ids = torch.full((ROWS, width), PAD)
    attention = torch.zeros(ROWS, width, dtype=torch.long)
    positions = torch.zeros(ROWS, 4, width, dtype=torch.long)
    pictures = []
    for i in range(ROWS):
        text = torch.randint(1, 380, (5 + i % 4,), generator=draw).tolist()
        height, wide = GRIDS[i % len(GRIDS)]
        places = height * wide // 4
        if kind == "vl":
            start, image, end = (
                config.vision_start_token_id,
                config.image_token_id,
                config.vision_end_token_id,
            )
            text = [start, *[image] * places, end, *text]
            patches = torch.randn(height * wide, 1176, generator=draw)
            pictures.append({"pixel_values": patches, "image_grid_thw": torch.tensor([[1, height, wide]])})
        answer = torch.randint(1, 380, (int(LENGTHS[i]),), generator=draw).tolist()
        first, last = PROMPT - len(text), PROMPT + len(answer)
        ids[i, first:last] = torch.tensor(text + answer)
        attention[i, first:last] = 1
        positions[i, 0, first:last] = torch.arange(last - first)
        positions[i, 1:, first:last] = _positions(height, wide, last - first).T
    mask = torch.arange(RESPONSE) < LENGTHS[:, None]
    return {
        "input_ids": ids,
        "attention_mask": attention,
        "position_ids": positions if kind == "vl" else positions[:, 0],
        "response_mask": mask.long(),
        "prompts": ids[:, :PROMPT],
        "responses": ids[:, PROMPT:],
        "advantages": torch.randn(ROWS, 1, generator=draw) * mask,
        "noise": torch.randn(ROWS, RESPONSE, generator=draw) * 0.35 * mask,
        "pictures": pictures,
    }


def _positions(height: int, wide: int, length: int) -> torch.Tensor:
    """Qwen2.5-VL's (time, height, width) of a start token, a picture, and text."""
    places = [(1, 1 + y, 1 + x) for y in range(height // 2) for x in range(wide // 2)]
    after = 1 + max(height, wide) // 2
    text = [(after + i,) * 3 for i in range(max(0, length - 1 - len(places)))]
    return torch.tensor([(0, 0, 0), *places, *text][:length])


def tensors_of(batch: dict, mine: slice, old=None, **settings):
    fields = {name: value[mine].clone() for name, value in batch.items() if torch.is_tensor(value)}
    fields.pop("noise")
    if old is not None:
        fields["old_log_probs"] = old[mine]
    if batch["pictures"]:
        fields["multi_modal_inputs"] = batch["pictures"][mine]
    return left_right_2_no_padding(tu.get_tensordict(fields, non_tensor_dict=settings))


class Gradients:
    """A worker whose optimiser leaves the weights alone and keeps the gradient."""

    def __init__(self, kind: str, model: str) -> None:
        self.base = (
            *ON_CPU,
            f"actor_rollout_ref.model.path={model}",
            f"{ACTOR}.ppo_micro_batch_size_per_gpu=1",
            f"{ACTOR}.ppo_mini_batch_size={ROWS}",
            f"{ACTOR}.optim.lr=0.0",
            f"{ACTOR}.grad_clip=1e9",
            "actor_rollout_ref.rollout.name=hf",
            "actor_rollout_ref.rollout.n=1",
        )
        self.worker = ActorRolloutRefWorker(composed(*self.base).actor_rollout_ref, role="actor")
        self.worker.init_model()
        self.engine = self.worker.actor.engine
        self.batch = rows(kind, self.engine.module.config)
        each = ROWS // dist.get_world_size()
        self.mine = slice(dist.get_rank() * each, (dist.get_rank() + 1) * each)
        self.old = self._log_probs() - self.batch["noise"]
        self._step, self.engine.optimizer_step = self.engine.optimizer_step, self._kept
        self.gradient = torch.empty(0)

    def _log_probs(self) -> torch.Tensor:
        """Of all ranks' rows."""
        settings = {"micro_batch_size_per_gpu": 1, "use_dynamic_bsz": False, "temperature": 1.0}
        settings |= {"calculate_entropy": True, "compute_loss": False, "global_token_num": [1]}
        data = tensors_of(self.batch, self.mine, **settings)
        found = (
            no_padding_2_padding(self.worker.compute_log_prob(data)["log_probs"], data).float().contiguous()
        )
        parts = [torch.zeros_like(found) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, found)
        return torch.cat(parts)

    def _kept(self):
        parts = []
        for parameter in self.engine.module.parameters():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradient = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
            parts.append(gradient.flatten().double())
        self.gradient = torch.cat(parts)
        return self._step()

    def of(self, loss: tuple[str, ...], cut: dict) -> tuple[torch.Tensor, dict[str, float]]:
        actor = omega_conf_to_dataclass(composed(*self.base, *loss).actor_rollout_ref.actor)
        self.worker.actor.set_loss_fn(partial(ppo_loss, config=actor))
        settings = {"temperature": 1.0, "calculate_entropy": False, "epochs": 1, "seed": 1}
        settings |= {
            "global_batch_size": ROWS,
            "mini_batch_size": ROWS,
            "dataloader_kwargs": {"shuffle": False},
        }
        data = tensors_of(self.batch, self.mine, self.old, **settings, **cut)
        metrics = self.worker.update_actor(data)["metrics"]
        numbers = {key: value[0] if isinstance(value, list) else value for key, value in metrics.items()}
        return self.gradient.clone(), {key: float(value) for key, value in numbers.items()}


def cuts() -> dict[str, dict]:
    """How this rank's rows are cut into micro-batches."""
    each = ROWS // dist.get_world_size()
    found = {f"{n} rows": {"micro_batch_size_per_gpu": n, "use_dynamic_bsz": False} for n in (8, 4, 2, 1)}
    found = {name: cut for name, cut in found.items() if cut["micro_batch_size_per_gpu"] <= each}
    for tokens in (64, 128):
        found[f"{tokens} tokens"] = {"max_token_len_per_gpu": tokens, "use_dynamic_bsz": True}
    return found


def main(kind: str, model: str, out: str, only: str = "") -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    verl_on_cpu.register_engine()
    gradients = Gradients(kind, model)
    wanted = only.split(";") if only else None
    found = {
        name: {cut: gradients.of(loss, settings) for cut, settings in cuts().items()}
        for name, loss in losses(os.path.dirname(out)).items()
        if wanted is None or name in wanted
    }
    if dist.get_rank() == 0:
        torch.save(found, out)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
