"""`gmpo-vl demo --countdown`: a tiny mixture of experts learns CountDown with GMPO on a CPU.

A table shows where its routers send tokens. Reads top to bottom: puzzles, score before, training, score
after, routers before and after, the page. The puzzles of warm-up, training, validation and test are disjoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from gmpo_vl.data.rows import Columns
from gmpo_vl.demo.before_and_after import (
    SAMPLES,
    Scores,
    begin,
    compare,
    print_limits,
    print_scores,
    scores,
)
from gmpo_vl.engines.local.engine import train
from gmpo_vl.models.families.text import TextFamily
from gmpo_vl.models.forward import ForwardOptions, response_log_probs
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.moe import packaged_tiny_moe
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.prompts import PromptSettings, load_prompts
from gmpo_vl.models.routers import RouterCounter, Routing
from gmpo_vl.models.shared import first_way
from gmpo_vl.report import write_report
from gmpo_vl.rollout.hf import generate
from gmpo_vl.storage.files import write_json
from gmpo_vl.tasks.countdown.data import TINY, Split, export
from gmpo_vl.types import Sampling

CONFIG = Path(__file__).with_name("countdown.yaml")
TEST_PROBLEMS = 384
MAX_TOKENS = 48
ROWS: dict[Split, int] = {"train": 640, "validation": 128}
ROUTED = 64  # test problems whose answers the router table counts
LIMITS = (
    "That the model learned new arithmetic. At the end of its warm-up half of the answers it read missed the "
    "target; the reward tells it which half pays.",
    "That GMPO does better than GRPO, or keeps routers steadier: that takes both, tuned alike, and several "
    "seeds (gmpo-vl study).",
    "What a real mixture of experts gains on the public CountDown set: here are 0.85 million parameters and "
    "numbers up to 10.",
    "How much runs differ: the interval is over problems, not over seeds.",
)


def run(config_file: str | Path, test_problems: int, overrides: Sequence[str]) -> None:
    """The whole demo. overrides: a.b=c, over the file's keys."""
    start = time.perf_counter()
    model = packaged_tiny_moe()
    settings = [
        "trainer.experiment_name=demo_countdown",
        f"worker.actor.model.model_path={model}",
        *overrides,
    ]
    demo = begin(config_file, test_problems, settings)
    folder = demo.folder

    print("1. puzzles: three numbers up to 10, a target up to 60", flush=True)
    export(demo.data, {**ROWS, "test": test_problems}, TINY)

    print(f"2. before: {SAMPLES} samples and one greedy answer to each test problem", flush=True)
    before = scores(model, folder, "before", MAX_TOKENS, "tag")

    print("3. training with GMPO", flush=True)
    trained_run = train(demo.config)

    print("4. after", flush=True)
    trained = trained_run.checkpoint(trained_run.checkpoint_steps()[-1]) / "huggingface"
    after = scores(trained, folder, "after", MAX_TOKENS, "tag")
    routed = {"before": routing(model, folder), "after": routing(trained, folder)}
    summary = summarise(before, after, routed, time.perf_counter() - start)
    write_json(folder / "summary.json", summary)
    page = write_report(folder)
    print_scores(summary)
    print_routers(routed)
    print_limits(summary)
    print(f"\npage     {page}\nsummary  {folder / 'summary.json'}")


@torch.no_grad()
def routing(folder_of_model: Path, folder: Path) -> Routing:
    """Where a model's routers send the tokens of its own answers to some test problems."""
    processor, model = load_processor(folder_of_model), load_model(folder_of_model).eval()
    prompts = load_prompts(str(folder / "data/test.parquet"), PromptSettings(Columns()), processor)
    asked = prompts.encode(range(min(ROUTED, len(prompts))))
    counter, counted = RouterCounter(model), []
    options = ForwardOptions(first_way(model.config), routing=counter)
    for group in generate(model, processor, asked, Sampling(8, MAX_TOKENS)):
        packed = pack([(group.prompt, r.ids_T) for r in group.responses], TextFamily(), model.device)
        response_log_probs(model, packed, 1.0, (), options=options)
        counted.append(counter.sums_BS)
    return Routing(model.config, torch.cat(counted))


def summarise(before: Scores, after: Scores, routed: dict[str, Routing], seconds: float) -> dict:
    """summary.json. router_load: per layer, each expert's share of the tokens times the number of experts."""
    return {
        "metric": "avg@16 at temperature 1, CountDown with three numbers up to 10, test split",
        **compare(before, after),
        "router_load": {when: tally.load_LE.tolist() for when, tally in routed.items()},
        "router_entropy": {when: tally.entropy for when, tally in routed.items()},
        "limits": list(LIMITS),
        "seconds": seconds,
    }


def print_routers(routed: dict[str, Routing]) -> None:
    """A line per layer and time: what share of the response tokens each expert gets, in percent."""
    tally = routed["before"]
    print(
        f"\nrouters: share of the response tokens in percent, of {tally.experts} experts with "
        f"{tally.active} active ({100 * tally.active / tally.experts:.1f} is even)"
    )
    print(f"{'':20}" + "".join(f"{f'expert {e + 1}':>10}" for e in range(tally.experts)))
    for layer in range(tally.layers):
        for when, of in routed.items():
            shares = of.load_LE[layer] * 100 * of.active / of.experts
            name = f"layer {layer + 1} {when}"
            print(f"{name:20}" + "".join(f"{share:10.1f}" for share in shares.tolist()))
    entropies = ", ".join(f"{when} {of.entropy:.2f}" for when, of in routed.items())
    print(
        f"entropy of the routers' choices in nats: {entropies} "
        f"({math.log(tally.experts):.2f} is no preference)"
    )
