"""What will computing each picture and prompt once per group save with my data and my model?

    python benchmarks/predict_step.py CONFIG [a.b=c ...] [--prompts 256]

Reads the configuration, encodes some prompts as the run would, and counts the operations of a step (batching/cost.py), once
with every rollout alone and once with prompts shared as the run's own limits allow, for answers of a quarter, a half and all of max_response_length. No
weights are loaded and nothing is timed; how near an update comes to its share is what `make bench-step` measures.
"""

from __future__ import annotations

import argparse

import torch
from transformers import AutoConfig

from gmpo_vl.batching.cost import Shape, rates
from gmpo_vl.batching.planning import Limits, Row, micro_batches, rows_of, shapes_of
from gmpo_vl.batching.predict import step_gain
from gmpo_vl.cli import quiet_libraries
from gmpo_vl.config import load_config
from gmpo_vl.data.order import EpochOrder
from gmpo_vl.engines.passes import limits_of
from gmpo_vl.engines.setup import load_split
from gmpo_vl.models.loading import model_folder
from gmpo_vl.models.processing import load_processor
from gmpo_vl.rollout.types import Group, Response


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="keys that replace those of the file")
    parser.add_argument("--prompts", type=int, default=256, help="how many to look at (default 256)")
    options = parser.parse_args()
    quiet_libraries()
    config = load_config(options.config, options.overrides)
    actor = config.worker.actor
    folder = model_folder(str(actor.model.model_path))
    processor = load_processor(folder, config.data.override_chat_template)
    of = rates(AutoConfig.from_pretrained(folder))

    split = load_split(config, config.data.train_files, processor)
    chosen = EpochOrder(len(split), config.data.seed).take(0, min(options.prompts, len(split)))
    prompts = split.encode(chosen)
    tokens = sum(len(p.ids_P) for p in prompts) / len(prompts)
    pictures = sum(int(p.image_grid_thw.prod(dim=1).sum()) for p in prompts) / len(prompts)
    print(
        f"{len(prompts)} prompts: {tokens:.0f} tokens and {pictures:.0f} patches on average, {config.worker.rollout.n} answers each"
    )
    print(f"{'answers of':20}{'1/4':>8}{'1/2':>8}{'all':>8}  of {config.data.max_response_length} tokens")
    columns = []
    share = actor.share_prefix != "never"
    for divisor in (4, 2, 1):
        ids_T = torch.zeros(max(1, config.data.max_response_length // divisor))
        answers = [Response(ids_T, ids_T, "", True, 0)] * config.worker.rollout.n
        rows = rows_of([Group(str(i), prompt, answers) for i, prompt in enumerate(prompts)])

        def cut(rollouts: int, rows: list[Row] = rows) -> list[Shape]:
            """As the run's limits cut the groups; a rollout alone where nothing is shared."""
            limits = limits_of(config, True, rollouts) if share else Limits(max_rows=1)
            return shapes_of(micro_batches(rows, limits))

        columns.append(
            step_gain(
                of,
                shapes_of([rows]),
                cut(actor.micro_batch_size_per_device_for_experience),
                cut(actor.micro_batch_size_per_device_for_update),
                with_reference=not config.algorithm.disable_kl,
                updates=actor.ppo_epochs,
                checkpointing=actor.model.enable_gradient_checkpointing,
                frozen_vision=actor.model.freeze_vision_tower and share,
            )
        )
    for row in zip(*columns):
        gains = "".join(f"{gain.times_less:7.2f}x" for gain in row)
        print(f"{row[0].phase:20}{gains}  fewer operations")


if __name__ == "__main__":
    main()
