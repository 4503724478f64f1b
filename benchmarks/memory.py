"""Peak memory of an update, shared against plain, at an equal budget of tokens per forward.

    python benchmarks/memory.py [--budget 4096] [--json]
                                [--device cuda --model-config qwen2_5_vl_7b --checkpointing]

plain fills the budget with whole rollouts side by side, shared with the prompt once and as many responses as
fit; a group that does not fit is split. Each way runs in a process of its own, whose C library gives freed
blocks back at once (glibc), so that resident memory is what tensors take and not what an allocator keeps.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from functools import partial

import torch
from measure import peak_memory_of
from step_models import CONFIGS, random_group, random_model, versions
from training_step import SETTINGS, update

from gmpo_vl.batching.planning import Limits, micro_batches, rows_of
from gmpo_vl.models.compat import enable_gradient_checkpointing


def peak(setting: str, share_prefix: bool, options: argparse.Namespace) -> tuple[float, int]:
    """Bytes above the model at the peak of the second update, and how many micro-batches it has."""
    torch.set_num_threads(1)
    device = torch.device(options.device)
    dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    model = random_model(options.model_config, device, dtype)
    if options.checkpointing:
        enable_gradient_checkpointing(model)
    group, _ = random_group(options.model_config, *SETTINGS[setting], device)
    rows, limits = rows_of([group]), Limits(max_tokens=options.budget, share_prefix=share_prefix)
    update(model, rows, limits, device)  # what the libraries keep for themselves is not counted
    return peak_memory_of(partial(update, model, rows, limits, device), device), len(
        micro_batches(rows, limits)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--budget", type=int, default=4096, help="tokens of a forward (default 4096)")
    parser.add_argument("--model-config", choices=CONFIGS, default="scaled_3b")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--checkpointing", action="store_true", help="recompute layers in the backward")
    parser.add_argument("--json", action="store_true", help="one JSON object a setting")
    options = parser.parse_args()
    if not options.json:
        print("prompt/response/group   plain MB (forwards)   shared MB (forwards)   shared / plain")
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # read by a process when it starts
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for setting in options.settings:
            found = [pool.apply(peak, (setting, share, options)) for share in (False, True)]
            (plain, plain_parts), (shared, shared_parts) = found
            if options.json:
                line = {
                    "setting": setting,
                    "budget": options.budget,
                    "plain_peak_mb": round(plain / 2**20),
                    "shared_peak_mb": round(shared / 2**20),
                    "plain_forwards": plain_parts,
                    "shared_forwards": shared_parts,
                    "model": options.model_config,
                    **versions(torch.device(options.device)),
                }
                print(json.dumps(line), flush=True)
                continue
            print(
                f"{setting:22} {plain / 2**20:8.0f} ({plain_parts})  {shared / 2**20:18.0f} ({shared_parts}) "
                f"{shared / plain:18.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
