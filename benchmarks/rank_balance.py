"""Do 8 ranks finish an update at the same time? Groups dealt by cost, against rollouts dealt by tokens (as
EasyR1 does).

    python benchmarks/rank_balance.py [--groups 64] [--ranks 8] [--seed 0] [--repeats 3] [--json]

Prompts with pictures of 64 to 1,024 tokens (some without), answers of 20 to 400 tokens, 4 to a prompt. Every
rank's forward and backward run one after the other on this machine and are timed (on a CPU: CPU seconds of
this process); of each micro-batch the least of the rounds counts, since whatever else the machine does only
adds.

by cost     whole groups, prompts and pictures computed once; operations of a group from the model's config
by tokens   single rollouts, prompts and pictures computed for each; the same method on prompt and response
            tokens
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import Any

import torch
from measure import keep_freed_memory, seconds_of
from step_models import CONFIGS, random_group, random_model, versions
from training_step import update

from gmpo_vl.batching.planning import Limits, Row, micro_batches, rows_of
from gmpo_vl.sizing.cost import rates
from gmpo_vl.sizing.ranks import deal, group_cost
from gmpo_vl.types import Group


def mixed_groups(name: str, count: int, seed: int, device: torch.device) -> list[Group]:
    """Prompt lengths and answer lengths as uneven as a mixed data set's."""
    draw = torch.Generator().manual_seed(seed)
    groups = []
    for i in range(count):
        # 100 to 1,500 tokens, short ones more often.
        prompt = int(100 * 15 ** torch.rand(1, generator=draw).item())
        lengths = (20 * 20 ** torch.rand(4, generator=draw)).int().tolist()  # 20 to 400
        group, _ = random_group(name, prompt, lengths, device)
        group.key = str(i)
        groups.append(group)
    return groups


def slowest_to_mean(seconds: list[float]) -> float:
    return max(seconds) / (sum(seconds) / len(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", type=int, default=64, help="prompts of the update (default 64)")
    parser.add_argument("--ranks", type=int, default=8, help="(default 8)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all ranks (default 3)")
    parser.add_argument("--shared-only", action="store_true", help="leave out the rollouts dealt by tokens")
    parser.add_argument("--seed", type=int, default=0, help="of the groups' lengths (default 0)")
    parser.add_argument("--model-config", choices=CONFIGS, default="scaled_3b")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--max-tokens", type=int, default=8192, help="tokens of a packed row (default 8192)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    model = random_model(
        options.model_config, device, torch.bfloat16 if device.type == "cuda" else torch.float32
    )
    groups = mixed_groups(options.model_config, options.groups, options.seed, device)
    of = rates(model.config)

    by_cost = deal([group_cost(of, rows_of([group])) for group in groups], options.ranks)
    whole: list[list[Row]] = [rows_of([groups[i] for i in indices]) for indices in by_cost]
    rollouts = rows_of(groups)
    by_tokens = deal([float(row.length) for row in rollouts], options.ranks)
    single = [[rollouts[i] for i in indices] for indices in by_tokens]

    def seconds(ranks: list[list[Row]], limits: Limits) -> list[float]:
        update(model, ranks[0], limits, device)  # warm
        parts = [micro_batches(rows, limits) for rows in ranks]
        rounds = [
            [
                [seconds_of(partial(update, model, part, limits, device), device) for part in mine]
                for mine in parts
            ]
            for _ in range(options.repeats)
        ]
        return [sum(min(times) for times in zip(*of_rank)) for of_rank in zip(*rounds)]

    ours = seconds(whole, Limits(max_tokens=options.max_tokens))
    found: dict[str, Any] = {
        "groups": options.groups,
        "ranks": options.ranks,
        "seed": options.seed,
        "by_cost_seconds": [round(s, 3) for s in ours],
        "by_cost_slowest_to_mean": round(slowest_to_mean(ours), 3),
        "model": options.model_config,
        "repeats": options.repeats,
        **versions(device),
    }
    if not options.shared_only:
        theirs = seconds(single, Limits(max_rows=1, share_prefix=False))
        found |= {
            "by_tokens_seconds": [round(s, 3) for s in theirs],
            "by_tokens_slowest_to_mean": round(slowest_to_mean(theirs), 3),
            "slowest_rank_speedup": round(max(theirs) / max(ours), 2),
        }
    if options.json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        print(f"{key:26} {value}")


if __name__ == "__main__":
    main()
