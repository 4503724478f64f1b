"""Supervised warm-up of the packaged tiny mixture of experts on small CountDown puzzles: minutes on one core.

    python recipes/warm_up_countdown.py OUT                    the packaged model

It sees puzzles of a share of its own (tasks/countdown/data.py), worked out step by step. In the last part of
the steps some of the answers are attempts that miss the target: that leaves the model as pretraining leaves a
real one, able to reach a target and not told that it pays. The routers are kept in balance by the loss of
Switch Transformers (Fedus et al. 2021, Eq. 4), over each batch. The same machine and versions give the same
weights.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from functools import cache
from pathlib import Path

import torch
from muon import learning_rate, make_optimizers, mean_loss, update

from gmpo_vl.models.compat import save_pretrained
from gmpo_vl.models.families.text import TextFamily
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.moe import TOKENIZER_TEXT, save_tiny_moe
from gmpo_vl.models.processing import Processor, encode_prompt, load_processor
from gmpo_vl.models.routers import watch_routers
from gmpo_vl.models.tiny import save_folder, tiny_tokenizer
from gmpo_vl.rollout.hf import generate
from gmpo_vl.tasks.countdown.data import (
    TINY,
    Puzzle,
    draw_puzzles,
    every_puzzle,
    row_of,
)
from gmpo_vl.tasks.countdown.reward import compute_score
from gmpo_vl.types import Example, Prompt, Sampling
from gmpo_vl.verify.countdown import Expression, expressions


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    folder = save_tiny_moe(args.out, args.seed)
    processor, model = load_processor(folder), load_model(folder)
    puzzles = every_puzzle("warmup", TINY)
    ways = {puzzle.key: plain_ways(puzzle) for puzzle in puzzles}
    puzzles = [puzzle for puzzle in puzzles if ways[puzzle.key][0]]
    check = [
        prompt_of(puzzle, processor) for puzzle in draw_puzzles("validation", args.puzzles, TINY, args.seed)
    ]
    print(f"{len(puzzles)} puzzles  {time.perf_counter() - start:.0f} s", flush=True)
    rng = random.Random(f"warm-up/{args.seed}")
    optimizers = make_optimizers(model, args.lr)
    for step in range(args.steps):
        attempts = args.attempts if step >= (1 - args.mixed) * args.steps else 0.0
        batch = [worked(rng.choice(puzzles), ways, attempts, processor, rng) for _ in range(args.batch)]
        with watch_routers(model) as logits:
            loss = mean_loss(model, batch, TextFamily())
        rate = learning_rate(step, args.steps, args.lr, fall=0.5)
        update(model, optimizers, loss + args.balance * balance_loss(logits), rate)
        if step % 25 == 0:
            print(f"step {step:4d}  loss {loss.item():.3f}  {time.perf_counter() - start:5.0f} s", flush=True)
        if (step + 1) % args.check_every == 0:
            print("   " + describe(score(model, processor, check, n=4)), flush=True)
            if args.snapshots:
                save_pretrained(model, Path(args.snapshots) / f"step_{step + 1:04d}")
    package(model, processor, folder, check)


def plain_ways(puzzle: Puzzle) -> tuple[list[Expression], list[Expression]]:
    """Expressions that reach the target, and that miss it, with whole numbers above 0 all the way."""
    found: tuple[list[Expression], list[Expression]] = ([], [])
    for e in plain_expressions(puzzle.numbers):
        found[e.value != puzzle.target].append(e)
    return found


@cache  # of the same numbers there are puzzles with many targets
def plain_expressions(numbers: tuple[int, ...]) -> list[Expression]:
    return [
        e for e in expressions(numbers) if all(value > 0 and value.denominator == 1 for *_, value in e.steps)
    ]


def prompt_of(puzzle: Puzzle, processor: Processor) -> Prompt:
    row = row_of(puzzle, TINY)
    return encode_prompt(Example(row["id"], row["problem"], row["answer"]), processor)


def worked(
    puzzle: Puzzle, ways: dict, attempts: float, processor: Processor, rng: random.Random
) -> tuple[Prompt, torch.Tensor]:
    """The puzzle, its numbers in any order, and an answer to it: right, or with a chance of `attempts` one
    that misses.
    """
    right, wrong = ways[puzzle.key]
    chosen = rng.choice(wrong if wrong and rng.random() < attempts else right)
    numbers = tuple(rng.sample(puzzle.numbers, len(puzzle.numbers)))
    ids = processor.tokenizer(answer_text(chosen) + "<|im_end|>")["input_ids"]
    return prompt_of(Puzzle(numbers, puzzle.target), processor), torch.tensor(ids)


def answer_text(expression: Expression) -> str:
    """A line a step, then the whole of it in its tag."""
    lines = [f"{a.value}{sign}{b.value}={value}" for a, b, sign, value in expression.steps]
    return "\n".join([*lines, f"<answer>{expression}</answer>"])


def balance_loss(logits: list[torch.Tensor]) -> torch.Tensor:
    """Experts x sum over experts of (share of the tokens that choose it) x (its mean probability); 1 where
    all is even.
    """
    losses = []
    for logits_NE in logits:
        experts = logits_NE.shape[1]
        probabilities_NE = logits_NE.float().softmax(-1)
        share_E = torch.bincount(probabilities_NE.argmax(-1), minlength=experts) / len(logits_NE)
        losses.append(experts * (share_E * probabilities_NE.mean(0)).sum())
    return torch.stack(losses).mean()


def score(
    model, processor: Processor, prompts: list[Prompt], n: int, temperature: float = 1.0
) -> dict[str, float]:
    """Means of what the reward gives."""
    sampling = Sampling(n=n, max_tokens=48, temperature=temperature, seed=1)
    groups = generate(model, processor, prompts, sampling)
    inputs = [
        {"response": r.text, "response_length": len(r.ids_T), "ground_truth": group.prompt.example.answer}
        for group in groups
        for r in group.responses
    ]
    scores = compute_score(inputs)
    return {name: sum(s[name] for s in scores) / len(scores) for name in ("accuracy", "format")}


def describe(means: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in means.items())


def package(model, processor: Processor, folder: Path, check: list[Prompt]) -> None:
    """Write the weights as bfloat16, and a card with what they score as written."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for file in folder.glob("*.safetensors"):
        file.unlink()
    save_folder(folder, model.to(torch.bfloat16), config, tiny_tokenizer(TOKENIZER_TEXT))
    written = load_model(folder)
    sampled = score(written, processor, check, n=16)
    greedy = score(written, processor, check, n=1, temperature=0.0)
    lines = [
        "# A tiny mixture of experts that has seen some CountDown",
        "",
        f"{sum(p.numel() for p in written.parameters()):,} parameters, 8 experts a layer beside a shared "
        "one, 1 active; a standard",
        "Qwen2-MoE in bfloat16. Made by `recipes/warm_up_countdown.py`, whose first lines say how. Puzzles: "
        "three numbers up to 10.",
        "",
        f"{len(check)} validation puzzles, 16 samples at temperature 1: {describe(sampled)}; "
        f"greedy: {describe(greedy)}.",
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("out", help="folder for the model")
    add(
        "--attempts",
        type=float,
        default=0.5,
        help="share of answers that miss, in the last part (default 0.5)",
    )
    add(
        "--mixed", type=float, default=0.15, help="share of the updates that are the last part (default 0.15)"
    )
    add("--seed", type=int, default=0, help="weights, puzzles and order (default 0)")
    add("--steps", type=int, default=2400, help="updates (default 2400)")
    add("--batch", type=int, default=32, help="puzzles an update (default 32)")
    add("--lr", type=float, default=4e-3, help="peak learning rate of both optimizers (default 4e-3)")
    add("--balance", type=float, default=0.01, help="weight of the balance loss (default 0.01)")
    add("--puzzles", type=int, default=128, help="validation puzzles of a look (default 128)")
    add("--check-every", type=int, default=250, help="updates between two looks at validation (default 250)")
    add("--snapshots", help="folder for the weights at every look (default: none)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
