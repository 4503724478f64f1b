"""Supervised warm-up of the packaged tiny Qwen2.5-VL that plays the grid world, in two stages of minutes.

    python recipes/warm_up_gridworld.py --out PLAYER --snapshots PLAYER
    python recipes/warm_up_gridworld.py --start PLAYER/step_1600 --guesses 0.5 --steps 200 --lr 5e-4

It sees levels of a split of their own (environments/gridworld.py), played by the searching expert, who knows
what the picture shows and no more. Some of its moves are replaced by random ones, which are not shown as
answers: the model so sees places where its own mistakes lead. At first most rows ask what is in each cell:
sight before play. An answer of play says where the player is, where it wants to go, and the move.

The second stage gives the packaged model. It leaves it as pretraining leaves a real one: at some turns it
says where it wants to go and goes there, at others it names no place and moves at random. Which of the two
wins it is not told; reinforcement learning has to find out. The stage is short: after 1600 updates guesses
sat so deep that a few updates of the demo did not undo them. The same machine and versions give the same
weights.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from muon import learning_rate, make_optimizers, mean_loss, update

from gmpo_vl.data.images import decode_image
from gmpo_vl.environments import Observation
from gmpo_vl.environments.gridworld import (
    COLOURS,
    DOOR,
    FREE,
    HIDDEN,
    MOVES,
    WALL,
    GridWorld,
    draw_levels,
    expert,
    make_examples,
)
from gmpo_vl.environments.loading import load_environment
from gmpo_vl.environments.turns import load_turn_template, turn_example
from gmpo_vl.models.compat import save_pretrained
from gmpo_vl.models.families.qwen import resize_image
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.processing import Processor, encode_prompt, load_processor
from gmpo_vl.models.tiny import (
    SIZES,
    packaged_gridworld,
    random_model,
    save_folder,
    tiny_qwen2_5_vl_config,
    tiny_tokenizer,
)
from gmpo_vl.rollout.episodes import Games, play
from gmpo_vl.rollout.hf import generate
from gmpo_vl.types import Example, Prompt, Sampling

TURNS = 15
MIXED = 4096  # turns from which a batch is drawn, so that it is not a few games
READ = "What is in each cell?"
DIGITS = {thing: str(n) for n, thing in enumerate([HIDDEN, FREE, WALL, DOOR, *(c[0] for c in COLOURS)])}
PLAYER = "9"

Row = tuple[Example, str]  # a turn and its answer


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    rng = random.Random(f"warm-up/{args.seed}")
    turns = expert_turns(rng, args.random_moves)
    mixed = [next(turns) for _ in range(MIXED)]
    size, tokenizer = SIZES["gridworld"], tokenizer_of(mixed)
    config = tiny_qwen2_5_vl_config(size, tokenizer)
    folder = save_folder(args.out, random_model(config, size.initializer_range, args.seed), config, tokenizer)
    processor, model = load_processor(folder), load_model(args.start or folder)
    prompts = Prompts(processor)
    print(sum(p.numel() for p in model.parameters()), "parameters", flush=True)
    optimizers = make_optimizers(model, args.lr)
    for step in range(args.steps):
        rows = []
        for _ in range(args.batch):
            i = rng.randrange(MIXED)
            (turn, answer), read_row = mixed[i]
            mixed[i] = next(turns)
            if rng.random() < (0.1 if args.start else reading(step / args.steps)):
                rows.append(prompts.row(*read_row))
            elif args.guesses and rng.random() < args.guesses:
                rows.append(prompts.row(turn, guess(answer, rng)))
            else:
                rows.append(prompts.row(turn, answer))
        loss = mean_loss(model, rows, processor.family)
        update(model, optimizers, loss, learning_rate(step, args.steps, args.lr, fall=0.5))
        if step % 25 == 0:
            print(f"step {step:4d}  loss {loss.item():.3f}  {time.perf_counter() - start:5.0f} s", flush=True)
        if (step + 1) % args.check_every == 0:
            share = won(model, processor, levels=64, n=2)
            print(f"   won {share:.3f}", flush=True)
            if args.snapshots:
                save_pretrained(model, Path(args.snapshots) / f"step_{step + 1:04d}")
    save_folder(folder, model.bfloat16(), config, tokenizer)
    write_card(folder)


def reading(done: float) -> float:
    """Share of rows that ask for the cells: 90% for the first fifth of the steps, 10% from two fifths on."""
    return 0.9 - 0.8 * min(max((done - 0.2) / 0.2, 0.0), 1.0)


class Prompts:
    """Rows as token ids. A text is encoded once; after that only the picture changes."""

    def __init__(self, processor: Processor):
        self.processor = processor
        self.encoded: dict[str, Prompt] = {}
        self.answers: dict[str, torch.Tensor] = {}

    def row(self, turn: Example, answer: str) -> tuple[Prompt, torch.Tensor]:
        assert self.processor.image is not None
        if turn.problem not in self.encoded:
            self.encoded[turn.problem] = encode_prompt(turn, self.processor)
        if answer not in self.answers:
            self.answers[answer] = torch.tensor(self.processor.tokenizer(answer + "<|im_end|>")["input_ids"])
        [picture] = turn.images
        pixels = (resize_image(decode_image(picture), self.processor.image),)
        return replace(self.encoded[turn.problem], images=pixels), self.answers[answer]


def expert_turns(rng: random.Random, random_moves: float) -> Iterator[tuple[Row, Row]]:
    """Turns of the expert's games: its answer, and what is in the cells."""
    template = load_turn_template("turn")
    for number, level in enumerate(draw_levels("warmup")):
        row = Example(f"warmup/{number}", level.task, "-", game=str(level))
        game = GridWorld(row)
        seen: Observation = game.reset(0)
        past: list[tuple[Observation, str]] = []
        while len(past) < TURNS:
            target, move = expert(game.seen, game.at, None if game.has_key else level.key, rng)
            turn = turn_example(row, past, seen, 0, template)
            answer = f"{game.at[0]}{game.at[1]} to {target[0]}{target[1]} <action>{move}</action>"
            yield (turn, answer), (replace(turn, problem=f"<image>{READ}"), cells(game))
            taken = rng.choice(list(MOVES)) if rng.random() < random_moves else move
            step = game.step(taken)
            if step.ended:
                break
            past.append((seen, taken))
            seen = step.observation


def guess(answer: str, rng: random.Random) -> str:
    """A random move towards nowhere, with as many tokens as the expert's answer: the geometric mean divides
    by them, so each token of a shorter guess would move more."""
    at, _ = answer.split(" to ")
    return f"{at} to ?? <action>{rng.choice(list(MOVES))}</action>"


def cells(game: GridWorld) -> str:
    """A digit for each cell as the picture shows it, and whether the player carries the key."""
    digits = [[DIGITS[thing] for thing in row] for row in game.seen]
    digits[game.at[0]][game.at[1]] = PLAYER
    return "".join("".join(row) for row in digits) + str(int(game.has_key))


def tokenizer_of(turns: list[tuple[Row, Row]]) -> Any:
    """It knows these turns' words."""
    texts = {text for pair in turns for turn, answer in pair for text in (turn.problem, answer)}
    return tiny_tokenizer([*sorted(texts), "system\nuser\nassistant\n"])


def write_card(folder: Path) -> None:
    """The games that the model wins as it is written."""
    model = load_model(folder)
    share = won(model, load_processor(folder), levels=256, n=4)
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    lines = [
        "# A tiny Qwen2.5-VL that has watched an expert play the grid world",
        "",
        f"{parameters:.2f} million parameters, standard transformers classes, bfloat16. Made by "
        "`recipes/warm_up_gridworld.py`.",
        "It answers a turn's picture with where the player is, where it wants to go, and the move (`12 to 22 "
        "<action>down</action>`), or guesses: no place, and a random move (`12 to ?? <action>up</action>`).",
        "",
        f"Of 256 validation levels, 4 games each at temperature 1 and {TURNS} turns, it wins {share:.3f}.",
        "`gmpo-vl demo --agent` trains it: docs/environments.md has what came of it.",
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines), flush=True)


def won(model, processor: Processor, levels: int, n: int) -> float:
    """Share of games won of some validation levels, n of each, at temperature 1."""
    games = Games(load_environment("gridworld"), lambda turn: encode_prompt(turn, processor), TURNS, 0, 128)
    rows = make_examples("validation", levels)
    sampling = Sampling(n=n, max_tokens=24, temperature=1.0, seed=1)
    played = play(
        games, rows, [0] * levels, sampling, lambda p, at, s: generate(model, processor, list(p), s, at)
    )
    return sum(bool(outcome.won) for outcome in played.outcomes) / len(played.outcomes)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", default=str(packaged_gridworld()), help="folder to write (default: the packaged one)")
    add("--start", help="go on from this model folder instead of random weights")
    add(
        "--guesses",
        type=float,
        default=0.0,
        help="share of turns answered by a random move towards nowhere (default 0)",
    )
    add("--seed", type=int, default=0, help="weights, levels and order (default 0)")
    add("--steps", type=int, default=1600, help="length of the schedule in updates (default 1600)")
    add("--batch", type=int, default=32, help="turns of an update (default 32)")
    add("--lr", type=float, default=4e-3, help="peak learning rate (default 4e-3)")
    add("--random-moves", type=float, default=0.2, help="share of moves that are random (default 0.2)")
    add("--check-every", type=int, default=400, help="updates between two validations (default 400)")
    add("--snapshots", help="folder for the weights at every validation (default: none)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
