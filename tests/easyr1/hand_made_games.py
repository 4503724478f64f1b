"""Groups of games, made by hand: unequal numbers of turns, pictures, prompts that some turns share."""

import io
from dataclasses import replace

import torch
from PIL import Image

from gmpo_vl.environments import Observation
from gmpo_vl.environments.turns import load_turn_template, turn_example
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.types import Example, Group, Response, Turn

# Turns of each episode of a game. The last one is over at once.
TURNS = ([3, 1, 2], [1, 1, 1], [2, 4, 4], [1, 2, 5], [4, 2, 1], [2, 2, 2], [1, 3, 1], [1])


def make_games(config):
    """Turns of these games with log-probs, advantages and weights, nothing random. Every third game is in
    words alone. Episodes that did the same are shown the same."""
    processor = load_processor(config.worker.actor.model.model_path)
    draw = torch.Generator().manual_seed(0)
    return [_game(i, turns, processor, draw) for i, turns in enumerate(TURNS)]


def _game(i, turns, processor, draw):
    row = Example(f"game-{i}", f"Find thing {i}.", "", game="a house " * 400)
    prompts, responses = {}, []
    for episode, last in enumerate(turns):
        for number in range(1, last + 1):
            branch = 0 if number == 1 else episode // 2  # the first two episodes do the same in every turn
            if (branch, number) not in prompts:
                prompts[branch, number] = encode_prompt(_shown(row, branch, number, i % 3 != 0), processor)
            ids_T = torch.randint(20, 280, (1 + (3 * i + 2 * episode + 4 * number) % 9,), generator=draw)
            turn = Turn(prompts[branch, number], episode, number, "go on " * 50, 0.5, 0.1, "a place " * 50)
            sampled_T = torch.full((len(ids_T),), -5.6)
            responses.append(Response(ids_T, sampled_T, "text " * 100, len(ids_T) < 9, 0, turn=turn))
    group = Group(f"game-{i}@0", prompts[0, 1], responses)
    group.old_log_probs = [torch.randn(len(r.ids_T), generator=draw) * 0.3 - 5.8 for r in responses]
    group.scores = [{"overall": 0.5 * last, "accuracy": 0.0} for last in turns]
    group.verdicts = [None for _ in turns]
    group.advantages_G = torch.randn(len(responses), generator=draw, dtype=torch.float64)
    lengths = [turns[response.turn.episode] for response in responses]
    group.weights_G = 1 / torch.tensor(lengths, dtype=torch.float64)  # every episode counts the same
    return group


def _shown(row, branch, number, seen):
    """The turn's row: what was seen before it and now, each time with another picture."""

    def observed(at):
        if not seen:
            return Observation(f"You are at {at}.")
        return Observation(f"At {at}: <image>", (picture((int(row.id[-1]), branch if at > 1 else 0, at)),))

    past = [(observed(at), f"go {branch}") for at in range(1, number)]
    example = turn_example(row, past, observed(number), 2, load_turn_template("turn"))
    return replace(example, id=f"{row.id}/{branch}/{number}")


def picture(key):
    """A small picture of its own for each key of three digits."""
    buffer = io.BytesIO()
    Image.new("RGB", (56, 56), tuple(25 * digit for digit in key)).save(buffer, "PNG")
    return buffer.getvalue()
