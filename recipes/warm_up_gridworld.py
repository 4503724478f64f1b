"""Supervised warm-up of the packaged tiny Qwen2.5-VL that plays the grid world: minutes on one core.

    python recipes/warm_up_gridworld.py OUT                    the packaged model

It sees levels of a split of their own (environments/gridworld.py), played by the searching expert, who knows
what the picture shows and no more. Some of its moves are replaced by random ones, which are not shown as
answers: the model so sees places where its own mistakes lead. An answer says where the player is, where it
wants to go, and the move. The warm-up stops early: the model wins some of its games, and reinforcement
learning has the rest to find. The same machine and versions give the same weights.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from muon import learning_rate, make_optimizers, update

from gmpo_vl.environments import Observation
from gmpo_vl.environments.gridworld import GridWorld, draw_levels, expert
from gmpo_vl.environments.turns import load_turn_template, turn_example
from gmpo_vl.models.compat import save_pretrained
from gmpo_vl.models.forward import response_log_probs
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import Processor, encode_prompt, load_processor
from gmpo_vl.models.tiny import SIZES, random_model, save_folder, tiny_qwen2_5_vl_config, tiny_tokenizer
from gmpo_vl.types import Example, Prompt

TURNS = 15
MIXED = 8192  # turns from which a batch is drawn, so that it is not one game


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    template = load_turn_template("turn")
    rng = random.Random(f"warm-up/{args.seed}")
    turns = expert_turns(rng, args.random_moves, template)
    some = [next(turns) for _ in range(2000)]
    size = SIZES["demo"]
    tokenizer = tiny_tokenizer(
        [text for example, answer in some for text in (example.problem, answer)] + ["system\nuser\nassistant\n"]
    )
    config = tiny_qwen2_5_vl_config(size, tokenizer)
    folder = save_folder(args.out, random_model(config, size.initializer_range, args.seed), config, tokenizer)
    processor, model = load_processor(folder), load_model(folder)
    print(sum(p.numel() for p in model.parameters()), "parameters", tokenizer.get_vocab_size(), "tokens", flush=True)
    optimizers = make_optimizers(model, args.lr)
    mixed = some
    for step in range(args.steps):
        batch = [encoded(drawn(mixed, turns, rng), processor) for _ in range(args.batch)]
        packed = pack(batch, processor.family, model.device)
        log_probs_BT, _ = response_log_probs(model, packed, 1.0, ())
        loss = -log_probs_BT.sum() / packed.mask_BT.sum()
        update(model, optimizers, loss, learning_rate(step, args.steps, args.lr, fall=0.5))
        if step % 25 == 0:
            print(f"step {step:4d}  loss {loss.item():.3f}  {time.perf_counter() - start:5.0f} s", flush=True)
        if (step + 1) % args.check_every == 0:
            save_pretrained(model, Path(args.out) / f"step_{step + 1:04d}")
    save_pretrained(model, folder)


def expert_turns(rng: random.Random, random_moves: float, template: str) -> Iterator[tuple[Example, str]]:
    """Turns of the expert's games as prompts, with its answers."""
    for number, level in enumerate(draw_levels("warmup")):
        row = Example(f"warmup/{number}", level.task, "-", game=str(level))
        game = GridWorld(row)
        seen: Observation = game.reset(0)
        for _ in range(TURNS):
            key = None if game.has_key else level.key
            target, move = expert(game.seen, game.at, key, rng)
            yield turn_example(row, [], seen, 0, template), answer_text(game.at, target, move)
            taken = rng.choice(["up", "down", "left", "right"]) if rng.random() < random_moves else move
            step = game.step(taken)
            if step.ended:
                break
            seen = step.observation


def answer_text(at: tuple[int, int], target: tuple[int, int], move: str) -> str:
    return f"from {at[0]} {at[1]} to {target[0]} {target[1]}: <action>{move}</action>"


def drawn(mixed: list, turns: Iterator, rng: random.Random) -> tuple[Example, str]:
    """Some turn of the last ones; a new one takes its place."""
    if len(mixed) < MIXED:
        mixed.append(next(turns))
        mixed.append(next(turns))
    i = rng.randrange(len(mixed))
    found, mixed[i] = mixed[i], next(turns)
    return found


def encoded(turn: tuple[Example, str], processor: Processor) -> tuple[Prompt, torch.Tensor]:
    example, answer = turn
    ids = processor.tokenizer(answer + "<|im_end|>")["input_ids"]
    return encode_prompt(example, processor), torch.tensor(ids)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("out", help="folder for the model")
    add("--seed", type=int, default=0, help="weights, levels and order (default 0)")
    add("--steps", type=int, default=1500, help="updates (default 1500)")
    add("--batch", type=int, default=64, help="turns of an update (default 64)")
    add("--lr", type=float, default=2e-3, help="peak learning rate (default 2e-3)")
    add("--random-moves", type=float, default=0.2, help="share of moves that are random (default 0.2)")
    add("--check-every", type=int, default=300, help="updates between two snapshots (default 300)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
