"""ALFWorld's simulator for a model that writes no commands, and a small house whose games are soon won."""

import json
from pathlib import Path

from gmpo_vl.data.writing import write_parquet
from gmpo_vl.environments.alfworld import AlfWorld

HOUSE = {
    "start": 0,
    "receptacles": [["sink 1", "sink", 0, ""], ["shelf 1", "shelf", 0, ""]],
    "objects": [["apple 1", [0], [0], "pc"], ["desklamp 1", [0], [0], "t"]],
    "within": [],
    "fits": {"sink": "apple", "shelf": "apple"},
}
GOALS = {
    "look at the apple under the desklamp.": ["look_at_obj_in_light", "apple", "desklamp"],
    "put an apple in shelf.": ["pick_and_place_simple", "apple", "shelf"],
}


def write_games(path: Path, count: int) -> Path:
    """Rows of these games, as data_prep/alfworld.py writes them."""
    tasks = list(GOALS) * count
    rows = [
        {"images": [], "problem": task, "answer": "-", "id": f"house/{number}"}
        | {"game": json.dumps({**HOUSE, "goal": GOALS[task]})}
        for number, task in enumerate(tasks[:count])
    ]
    write_parquet(path, rows, {"id": "string", "game": "string"})
    return path


class Lucky:
    """The game, in which an answer's letters choose a command; one answer in four is none. Every turn leaves
    a line in `log`."""

    template = "alfworld"

    def __init__(self, example, log):
        self.game, self.log = AlfWorld(example), log

    def reset(self, seed):
        self.seen = self.game.reset(seed)
        return self.seen

    def step(self, answer):
        with open(self.log, "a") as file:
            file.write("turn\n")
        chosen = [c for c in self.seen.actions if c.split()[0] not in ("examine", "look", "inventory")]
        number = sum(map(ord, answer))
        if number % 4:
            answer = f"<think></think><action>{chosen[number % len(chosen)]}</action>"
        step = self.game.step(answer)
        self.seen = step.observation
        return step

    def close(self):
        self.game.close()
