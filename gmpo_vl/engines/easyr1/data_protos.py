"""Groups as EasyR1's own batches, one row per response, for the parts of EasyR1 that train its own losses."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Sequence

import torch
from verl.protocol import DataProto

from gmpo_vl.batching.planning import Row, rows_of
from gmpo_vl.config import Config
from gmpo_vl.engines.easyr1.serialisation import as_objects
from gmpo_vl.engines.passes import loss_mask
from gmpo_vl.models.forward import response_positions
from gmpo_vl.models.processing import Processor, make_patches
from gmpo_vl.types import Group, Prompt


def to_rows(groups: Sequence[Group], config: Config, processor: Processor) -> DataProto:
    """Prompts padded on the left to `max_prompt_length`, responses on the right to `max_response_length`.

    Position ids have four rows for models with mRoPE: EasyR1's counts of the text, then ours of time, height and width.
    Old and reference log-probs and advantages come along where the groups have them.
    """
    rows = rows_of(groups)
    longest_P, longest_T = config.data.max_prompt_length, config.data.max_response_length

    def left(values: torch.Tensor, fill: int = 0) -> torch.Tensor:
        return torch.nn.functional.pad(values, (longest_P - values.shape[-1], 0), value=fill)

    def right(values: torch.Tensor, fill: int = 0) -> torch.Tensor:
        return torch.nn.functional.pad(values, (0, longest_T - values.shape[-1]), value=fill)

    pad = processor.pad_id
    prompts_BP = torch.stack([left(row.group.prompt.ids_P, pad) for row in rows])
    responses_BT = torch.stack([right(row.ids_T, pad) for row in rows])
    attended_BP = torch.stack([left(torch.ones_like(row.group.prompt.ids_P)) for row in rows])
    attended_BT = torch.stack([right(torch.ones_like(row.ids_T)) for row in rows])
    tensors = {
        "responses": responses_BT,
        "input_ids": torch.cat([prompts_BP, responses_BT], dim=1),
        "attention_mask": torch.cat([attended_BP, attended_BT], dim=1),
        "position_ids": torch.stack([_positions(row, longest_P, longest_T, processor) for row in rows]),
        "response_mask": torch.stack([right(loss_mask(row, config).long()) for row in rows]),
    }
    if groups[0].old_log_probs:
        tensors["old_log_probs"] = torch.stack([right(row.group.old_log_probs[row.k]) for row in rows])
    if groups[0].ref_log_probs:
        tensors["ref_log_probs"] = torch.stack([right(row.group.ref_log_probs[row.k]) for row in rows])
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
    space_3P = torch.zeros((3, longest_P), dtype=torch.int64)
    space_3P[:, longest_P - len(prompt.ids_P) :] = prompt.position_ids_3P
    space_3L = torch.cat([space_3P, response_positions(prompt, longest_T)], dim=1)
    text_L = torch.zeros(longest_P + longest_T, dtype=torch.int64)
    count = len(prompt.ids_P) + longest_T
    text_L[-count:] = torch.arange(count)
    return text_L if processor.image is None else torch.cat([text_L[None], space_3L])


def _pictures(prompt: Prompt, processor: Processor) -> dict[str, torch.Tensor]:
    """What the image processor would give EasyR1: equal to the bit (models/processing.py)."""
    if not prompt.images or processor.image is None:
        return {}
    patches = torch.cat([make_patches(image, processor.image) for image in prompt.images])
    return {"pixel_values": patches, "image_grid_thw": prompt.image_grid_thw}
