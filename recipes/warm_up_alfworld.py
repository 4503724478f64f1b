"""Supervised warm-up of a tiny Qwen2 that plays ALFWorld's train games: three minutes on one core.

    python data_prep/alfworld.py path/to/json_2.1.1 data/alfworld
    python recipes/warm_up_alfworld.py PLAYER

It sees train games played by a searching expert, who looks in any place where it has not been yet until it
finds what the task names: it knows what the turn shows (configs/study/alfworld_turn.jinja), not where things
are. Some of its commands are replaced by random ones, which are not shown as answers: the model so sees where
its own mistakes lead. An answer names the thing or place that is wanted now, then the command:
`<think> apple</think><action>go to fridge 1</action>`. The same machine and versions give the same weights.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from muon import learning_rate, make_optimizers, mean_loss, update

from gmpo_vl.data.examples import load_examples
from gmpo_vl.environments import Observation
from gmpo_vl.environments.alfworld.game import NOTHING_HAPPENS, Game, house_of
from gmpo_vl.environments.loading import load_environment
from gmpo_vl.environments.turns import load_turn_template, turn_example
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.processing import Processor, encode_prompt, load_processor
from gmpo_vl.models.tiny import TinySize, random_model, save_folder, text_config, tiny_tokenizer
from gmpo_vl.rollout.episodes import Games, play
from gmpo_vl.rollout.hf import generate
from gmpo_vl.types import Example, Prompt, Sampling

TEMPLATE = Path(__file__).parents[1] / "configs" / "study" / "alfworld_turn.jinja"
SIZE = TinySize(96, 3, 3, 1, 192, 0, 0, 0, 0, tied=True, initializer_range=0.02, rope_theta=10000.0)
TURNS = 25
MIXED = 4096  # turns from which a batch is drawn, so that it is not a few games
CHANGES = {"clean": "sinkbasin 1", "heat": "microwave 1", "cool": "fridge 1"}
CHANGED = {"clean": "C", "heat": "H", "cool": "K"}  # flags of game.py

Row = tuple[Example, str]  # a turn and its answer


class Expert:
    """A player of one game. It searches places that are new to it in any order, a kind of place first."""

    def __init__(self, game: Game, rng: random.Random):
        self.game, self.rng = game, rng
        self.been: set[str] = set()  # commands that led somewhere
        kind = game.house.kind
        self.change = next((verb for verb in CHANGES if f"_{verb}_" in kind), None)
        self.looks, self.two = kind.startswith("look"), "two" in kind

    def act(self) -> tuple[str, str]:
        """(the thing or kind of place that is wanted now, the command)."""
        held = self.game.holding
        wanted, place = self.game.house.wanted_type, self.game.house.place_type
        goal = f"{place} 1"
        if held is None:
            but = f" from {goal}" if self.two else "nowhere"  # of two things the first is there already
            return wanted, self._possible(f"take {wanted} ", but) or self._possible("open ") or self._search()
        thing = self.game.house.objects[held]
        if thing.split()[0] != wanted:  # a random command took it
            return "nothing", self._possible("move ") or self._possible("open ") or self._search()
        if self.looks:
            return place, self._possible(f"use {place} ") or self._search()
        if self.change and self.game.state[held].isdisjoint(CHANGED[self.change]):
            at = CHANGES[self.change]
            return at.split()[0], self._possible(f"{self.change} {thing} with {at}") or f"go to {at}"
        do = self._possible(f"move {thing} to {goal}") or self._possible(f"open {goal}")
        return place, do or f"go to {goal}"

    def _search(self) -> str:
        """Go to a place that is new, or to any where none is."""
        places = [c for c in self.game.admissible if c.startswith("go to ")]
        new = [c for c in places if c not in self.been] or places
        kind = self.rng.choice(sorted({c.split()[2] for c in new}))
        return self.rng.choice([c for c in new if c.split()[2] == kind])

    def _possible(self, start: str, but: str = "nowhere") -> str | None:
        """The first command that is possible now and begins so, but for those that end with `but`."""
        return next((c for c in self.game.admissible if c.startswith(start) and not c.endswith(but)), None)


def expert_turns(rows: Sequence[Example], rng: random.Random, random_moves: float) -> Iterator[Row]:
    """Turns of the expert's games, game after game, each with its answer."""
    template, said = load_turn_template(TEMPLATE), ["look"]
    while True:
        row = rng.choice(rows)
        assert row.game is not None
        game = Game(house_of(row.game, row.problem))
        expert, past = Expert(game, rng), []
        seen = game.reset()
        while len(past) < TURNS and not game.won:
            want, command = expert.act()
            now = Observation(seen, actions=tuple(c for c in game.admissible if c != "help"))
            turn = turn_example(row, past, now, TURNS, template)
            yield turn, f"<think> {want}</think><action>{command}</action>"
            said = [*said[-99:], command]
            if rng.random() < random_moves:  # a possible command, or one that was said in any game
                command = rng.choice(rng.choice([now.actions, said]))
            past.append((now, command))
            seen = game.step(command)
            if seen != NOTHING_HAPPENS:
                expert.been.add(command)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    rng = random.Random(f"warm-up/{args.seed}")
    rows, check = (list(load_examples(f"{args.data}/{split}.parquet")) for split in ("train", "valid_train"))
    turns = expert_turns(rows, rng, args.random_moves)
    mixed = [next(turns) for _ in range(MIXED)]
    tokenizer = tokenizer_of(mixed)
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **text_config(SIZE, tokenizer),
    }
    folder = save_folder(args.out, random_model(config, SIZE.initializer_range, args.seed), config, tokenizer)
    processor, model = load_processor(folder), load_model(folder)
    print(sum(p.numel() for p in model.parameters()), "parameters", flush=True)
    optimizers = make_optimizers(model, args.lr)
    for step in range(args.steps):
        batch = []
        for _ in range(args.batch):
            i = rng.randrange(MIXED)
            batch.append(encoded(*mixed[i], processor))
            mixed[i] = next(turns)
        loss = mean_loss(model, batch, processor.family)
        update(model, optimizers, loss, learning_rate(step, args.steps, args.lr, fall=0.5))
        if step % 25 == 0:
            print(f"step {step:4d}  loss {loss.item():.3f}  {time.perf_counter() - start:5.0f} s", flush=True)
        if (step + 1) % args.check_every == 0:
            print(f"   won {won(model, processor, check[::3]):.3f}", flush=True)
            save_folder(folder, model, config, tokenizer)
    save_folder(folder, model, config, tokenizer)


def encoded(turn: Example, answer: str, processor: Processor) -> tuple[Prompt, torch.Tensor]:
    return encode_prompt(turn, processor), torch.tensor(
        processor.tokenizer(answer + "<|im_end|>")["input_ids"]
    )


def tokenizer_of(turns: Sequence[Row]) -> Any:
    """It knows these turns' words."""
    texts = {text for turn, answer in turns for text in (turn.problem, answer)}
    return tiny_tokenizer([*sorted(texts), "system\nuser\nassistant\n"])


def won(model: Any, processor: Processor, rows: Sequence[Example]) -> float:
    """Share of games won, each played once at temperature 1."""
    maker = load_environment("alfworld", template=str(TEMPLATE))
    games = Games(maker, lambda turn: encode_prompt(turn, processor), TURNS, TURNS, 512)
    sampling = Sampling(n=1, max_tokens=24, temperature=1.0, seed=1)
    played = play(
        games, rows, [0] * len(rows), sampling, lambda p, at, s: generate(model, processor, list(p), s, at)
    )
    return sum(bool(outcome.won) for outcome in played.outcomes) / len(played.outcomes)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("out", help="folder to write")
    add("--data", default="data/alfworld", help="folder of the rows (default data/alfworld)")
    add("--seed", type=int, default=0, help="weights, games and order (default 0)")
    add("--steps", type=int, default=500, help="length of the schedule in updates (default 500)")
    add("--batch", type=int, default=32, help="turns of an update (default 32)")
    add("--lr", type=float, default=4e-3, help="peak learning rate (default 4e-3)")
    add("--random-moves", type=float, default=0.2, help="share of commands that are random (default 0.2)")
    add("--check-every", type=int, default=250, help="updates between two validations (default 250)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
