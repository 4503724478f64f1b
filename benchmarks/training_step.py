"""How much faster is an update when each picture and each prompt is computed once per group? Against what is
possible?

    python benchmarks/training_step.py [--json] [--repeats 3] [--settings 450/300/5 ...]
    python benchmarks/training_step.py --model-config scaled_qwen3_5 --settings 450/300/8 450/1500/8
    python benchmarks/training_step.py --device cuda --model-config qwen2_5_vl_7b --checkpointing

Forward and backward of one group on a model with random weights; by default one with Qwen2.5-VL-3B's shares
of layers, attention, head and ViT, small enough for a CPU. Settings are prompt/response/group in tokens and
rollouts, `ragged` has responses of 20 to 400 tokens; 90/1500/8 is the least that `share_prefix: auto` shares
(a twentieth of the tokens).

plain   one rollout at a time, nothing padded, head on response positions only: the best that not sharing
        can do
shared  the group in packed rows of up to --max-tokens tokens: whole, or in the fewest parts, as in training
bound   operations of plain / operations of shared, forward and backward, from the model's config
        (sizing/cost.py): matrix products, causal attention counted half; with --checkpointing layers and ViT
        count four times their forward

Times are medians of interleaved runs (on a CPU: CPU seconds of this process); the two runs of a pair follow
each other, and the speed-up is the median of the pairs' ratios. Memory is the peak above what the process
held before the pass. On a CPU both ways keep freed memory (measure.py).

With EASYR1_HOME set (make bench-step EASYR1_HOME=FOLDER) EasyR1's own actor goes through the same rollouts,
one at a time, padded (nothing is padded at one rollout) and packed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from measure import keep_freed_memory, peak_memory_of, seconds_of
from step_models import CONFIGS, FAMILY, random_group, random_model, versions

from gmpo_vl.batching.planning import Limits, Row, micro_batches, rows_of
from gmpo_vl.models.compat import enable_gradient_checkpointing
from gmpo_vl.models.forward import ForwardOptions, response_log_probs
from gmpo_vl.models.loading import banned_ids
from gmpo_vl.models.packing import pack
from gmpo_vl.sizing.cost import rates, unique_token_bound

SETTINGS = {
    "450/300/5": (450, [300] * 5),
    "450/300/8": (450, [300] * 8),
    "450/300/16": (450, [300] * 16),
    "1500/300/8": (1500, [300] * 8),
    "1500/400/8": (1500, [400] * 8),
    "450/1500/8": (450, [1500] * 8),
    "90/1500/8": (90, [1500] * 8),
    "ragged": (450, [20, 47, 85, 120, 166, 230, 310, 400]),
}
STANDARD = ["450/300/5", "450/300/16", "1500/400/8", "450/1500/8", "90/1500/8", "ragged"]


def update(model: Any, rows: list[Row], limits: Limits, device: torch.device) -> None:
    """The group's gradient, in the micro-batches that the limits allow."""
    model.zero_grad(set_to_none=True)
    for batch in micro_batches(rows, limits):
        packed = pack([(row.group.prompt, row.ids_T) for row in batch], FAMILY, device)
        how = ForwardOptions("shared" if limits.share_prefix else "plain")
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            log_probs_BT, _ = response_log_probs(model, packed, 1.0, banned_ids(model.config), options=how)
        log_probs_BT.sum().backward()
    # Nothing is left that the next measurement would take for its own start.
    model.zero_grad(set_to_none=True)


def easyr1_ways(model: Any, rows: list[Row], device: torch.device) -> dict[str, Callable[[], None]]:
    """EasyR1's own actor on the same rollouts, where it is."""
    if "EASYR1_HOME" not in os.environ:
        return {}
    import easyr1_actor as easyr1

    batches = [easyr1.as_micro_batch(row, device) for row in rows]
    actors = {name: easyr1.easyr1_actor(model, name == "packed") for name in ("padded", "packed")}
    return {
        f"easyr1_{name}": partial(easyr1.update, model, actor, batches, device)
        for name, actor in actors.items()
    }


def compare(
    plain: Callable[[], None],
    shared: Callable[[], None],
    others: dict[str, Callable[[], None]],
    repeats: int,
    device: torch.device,
) -> dict[str, float]:
    """Memory first, then interleaved times after a round that does not count:

    measuring memory emptied the heap.
    """
    memory = {run: peak_memory_of(run, device) for run in (plain, shared)}
    rounds = []
    for _ in range(1 + repeats):
        rounds.append([seconds_of(run, device) for run in (plain, shared, *others.values())])
    times = [(p, s) for p, s, *_ in rounds[1:]]
    theirs: dict[str, float] = {}
    for i, name in enumerate(others, start=2):
        theirs[f"{name}_seconds"] = round(statistics.median(seconds[i] for seconds in rounds[1:]), 4)
        ratio = statistics.median(seconds[i] / seconds[1] for seconds in rounds[1:])
        theirs[f"speedup_vs_{name}"] = round(ratio, 3)
    return {
        **theirs,
        "plain_seconds": round(statistics.median(t for t, _ in times), 4),
        "shared_seconds": round(statistics.median(t for _, t in times), 4),
        "speedup_vs_plain": round(statistics.median(p / s for p, s in times), 3),
        "speedup_lowest": round(min(p / s for p, s in times), 3),
        "speedup_highest": round(max(p / s for p, s in times), 3),
        "plain_peak_mb": round(memory[plain] / 2**20),
        "shared_peak_mb": round(memory[shared] / 2**20),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=STANDARD)
    parser.add_argument("--model-config", choices=CONFIGS, default="scaled_3b")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--max-tokens", type=int, default=8192, help="tokens of a packed row (default 8192)")
    parser.add_argument("--repeats", type=int, default=3, help="timed pairs a setting (default 3)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--checkpointing", action="store_true", help="recompute layers in the backward")
    parser.add_argument("--json", action="store_true", help="one JSON object a setting")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    if device.type == "cpu":
        keep_freed_memory()
    model = random_model(options.model_config, device, dtype)
    if options.checkpointing:
        enable_gradient_checkpointing(model)
    of, where = rates(model.config), versions(device)
    if not options.json:
        print(f"{options.model_config}, {', '.join(f'{k} {v}' for k, v in where.items())}")
        print(
            "prompt/response/group   plain s  shared s  speed-up  (lowest-highest)  bound  of bound  parts  "
            "peak MB"
        )
    for setting in options.settings:
        prompt, lengths = SETTINGS[setting]
        group, shape = random_group(options.model_config, prompt, lengths, device)
        alone, packed = Limits(max_rows=1, share_prefix=False), Limits(max_tokens=options.max_tokens)
        rows = rows_of([group])
        found = compare(
            partial(update, model, rows, alone, device),
            partial(update, model, rows, packed, device),
            easyr1_ways(model, rows, device),
            options.repeats,
            device,
        )
        found["parts"] = len(micro_batches(rows, packed))
        bound = round(unique_token_bound(of, shape, checkpointing=options.checkpointing), 3)
        if options.json:
            asked = {"setting": setting, "prompt": prompt, "response": lengths, "group": len(lengths)}
            rest = {"model": options.model_config, "checkpointing": options.checkpointing, **where}
            print(json.dumps({**asked, **found, "unique_token_bound": bound, **rest}), flush=True)
            continue
        print(
            f"{setting:22} {found['plain_seconds']:8.2f} {found['shared_seconds']:9.2f} "
            f"{found['speedup_vs_plain']:9.2f}  "
            f"({found['speedup_lowest']:.2f}-{found['speedup_highest']:.2f}) "
            f"{bound:11.2f} {found['speedup_vs_plain'] / bound:9.0%} {found['parts']:6}  "
            f"{found['plain_peak_mb']:.0f} / {found['shared_peak_mb']:.0f}"
            + "".join(
                f"   {name.removeprefix('speedup_vs_')} {ratio:.2f}"
                for name, ratio in found.items()
                if name.startswith("speedup_vs_easyr1")
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
