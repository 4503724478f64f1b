"""A grid that the policy sees only as a picture: find the key of a colour, bring it to the door.

Where things are stands in the picture alone; the text says which key. A cell is hidden until the policy has
come near it, so it has to search. The wrong key loses the game. Walking into a wall changes nothing.

    make_examples("train", 64, seed=0)     64 rows, each with its level
    export("data/gridworld")               a parquet file per split, in EasyR1's columns

A row's `game` is its level: the colour, then the rows of the grid (`.` free, `#` wall, `A` the start, `D` the
door, a colour's first letter its key), with blanks between. A hash of the level gives its split, so splits
share none, whatever the seed. `expert` is a player for warm starts that sees what the picture shows and no
more.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageDraw

from gmpo_vl.data.writing import write_splits
from gmpo_vl.environments import Observation, Step
from gmpo_vl.types import Example

Cell = tuple[int, int]  # row, column
Split = Literal["warmup", "train", "validation", "test"]
SHARES: dict[Split, float] = {"warmup": 0.5, "train": 0.3, "validation": 0.05, "test": 0.15}
ROWS: dict[Split, int] = {"train": 2048, "validation": 128, "test": 512}  # that `export` writes by default

MOVES: dict[str, Cell] = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
COLOURS = {"red": (220, 40, 40), "blue": (40, 80, 220), "green": (30, 160, 60), "yellow": (235, 200, 30)}
CELL = 28  # pixels: one merged patch of Qwen2.5-VL
SIZE = 4  # rows and columns
WALLS = 3
SHORTEST = range(5, 12)  # moves of the shortest way, for a player who knows the whole level
VIEW = 1  # rows and columns around the player that are seen
INVALID = 0.1  # for an answer that is no move
HIDDEN, FREE, WALL, START, DOOR = "? . # A D".split()


@dataclass(frozen=True)
class Level:
    """colour: of the key that is asked for.   rows: of the grid, as in a row's `game`."""

    colour: str
    rows: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join([self.colour, *self.rows])

    @property
    def task(self) -> str:
        return f"Take the {self.colour} key to the door."

    @property
    def key(self) -> str:
        return self.colour[0]

    def find(self, thing: str) -> Cell:
        [cell] = [(i, j) for i, row in enumerate(self.rows) for j, at in enumerate(row) if at == thing]
        return cell


def level_of(game: str) -> Level:
    """From a row's `game`. Raises ValueError where it is no level."""
    colour, *rows = game.split() or [""]
    letters = "".join(rows)
    sizes = {len(row) for row in rows}
    if (
        colour not in COLOURS
        or len(sizes) != 1
        or any(letters.count(thing) != 1 for thing in (START, DOOR, colour[0]))
        or re.search(rf"[^.#AD{''.join(name[0] for name in COLOURS)}]", letters)
    ):
        raise ValueError(
            f"{game[:80]!r} is no level of the grid world; `make_examples` makes rows with levels"
        )
    return Level(colour, tuple(rows))


class GridWorld:
    """One level, from a row of `make_examples`. view: how many rows and columns around it the player sees."""

    def __init__(self, example: Example, view: int = VIEW):
        self.level = level_of(example.game)
        self.view = view

    @staticmethod
    def check_settings(view: int = VIEW) -> None:
        if type(view) is not int or view < 1:
            raise ValueError(f"environment 'gridworld': view: {view!r} is no number of cells, 1 or more")

    def reset(self, seed: int) -> Observation:
        """A level stands in its row: nothing is left to the seed."""
        self.at, self.has_key = self.level.find(START), False
        self._near: set[Cell] = set()
        return self._observation()

    def step(self, answer: str) -> Step:
        move = action_of(answer)
        if move is not None:
            target = (self.at[0] + MOVES[move][0], self.at[1] + MOVES[move][1])
            self.at = target if _thing(self.level.rows, target) != WALL else self.at
        here = _thing(self.level.rows, self.at)
        self.has_key = self.has_key or here == self.level.key
        won = self.has_key and here == DOOR
        lost = here.islower() and here != self.level.key
        return Step(
            self._observation(),
            reward=float(won),
            terminated=won or lost,
            truncated=False,
            penalty=0.0 if move else INVALID,
            action=move or "none",
            info={"won": won, "valid": move is not None},
        )

    def close(self) -> None:
        pass

    @property
    def seen(self) -> tuple[str, ...]:
        """The grid as the picture shows it, rows of letters: HIDDEN where nobody has been near."""
        return tuple(
            "".join(thing if (i, j) in self._near else HIDDEN for j, thing in enumerate(row))
            for i, row in enumerate(self._things())
        )

    def _things(self) -> list[str]:
        """What lies in each cell now: a key that was taken is gone."""
        gone = START + (self.level.key if self.has_key else "")
        return [re.sub(f"[{gone}]", FREE, row) for row in self.level.rows]

    def _observation(self) -> Observation:
        reach = range(-self.view, self.view + 1)
        self._near |= {(self.at[0] + i, self.at[1] + j) for i in reach for j in reach}
        picture = paint(self.seen, self.at, self.level.colour if self.has_key else None)
        return Observation("<image>", (picture,), tuple(MOVES))


def action_of(answer: str) -> str | None:
    """The move in the last `<action>`, or the whole answer if it is one; None where there is none."""
    tagged = re.findall(r"<action>(.*?)</action>", answer, re.DOTALL)
    move = (tagged[-1] if tagged else answer).strip().lower()
    return move if move in MOVES else None


def _thing(rows: Sequence[str], cell: Cell) -> str:
    """What is in a cell; there is a wall around the grid."""
    i, j = cell
    return rows[i][j] if 0 <= i < len(rows) and 0 <= j < len(rows[0]) else WALL


def paint(seen: Sequence[str], at: Cell, carries: str | None) -> Image.Image:
    """The picture: RGB, CELL pixels a cell. Hidden cells are grey, walls black, the door is brown with a
    knob, keys are diamonds; the player is a circle, filled with the colour of the key that it carries.
    """
    image = Image.new("RGB", (CELL * len(seen[0]), CELL * len(seen)), "white")
    draw = ImageDraw.Draw(image)
    keys = {name[0]: colour for name, colour in COLOURS.items()}
    for i, row in enumerate(seen):
        for j, thing in enumerate(row):
            x, y = j * CELL, i * CELL
            whole = (x, y, x + CELL - 1, y + CELL - 1)
            if thing == HIDDEN:
                draw.rectangle(whole, fill=(170, 170, 170))
            elif thing == WALL:
                draw.rectangle(whole, fill=(0, 0, 0))
            elif thing == DOOR:
                draw.rectangle((x + 5, y + 1, x + CELL - 6, y + CELL - 1), fill=(150, 90, 40))
                draw.ellipse((x + 17, y + 12, x + 20, y + 15), fill=(255, 230, 120))
            elif thing in keys:
                middle, far = CELL // 2, CELL - 5
                points = [
                    (x + middle, y + 4),
                    (x + far, y + middle),
                    (x + middle, y + far),
                    (x + 4, y + middle),
                ]
                draw.polygon(points, fill=keys[thing])
    x, y = at[1] * CELL, at[0] * CELL
    inside = COLOURS[carries] if carries else (255, 255, 255)
    draw.ellipse((x + 6, y + 6, x + CELL - 7, y + CELL - 7), fill=inside, outline=(120, 0, 120), width=4)
    return image


def expert(seen: Sequence[str], at: Cell, key: str | None, rng: random.Random) -> tuple[Cell, str]:
    """Where a player goes who knows what the picture shows, and its next move: to the key, or with it to the
    door, where they are seen; else to a cell, any one, that borders on hidden ones. It never steps on a wrong
    key.

    key: letter of the key that is asked for, None for who carries it.
    """
    wanted = key or DOOR
    free = {FREE, DOOR, wanted}
    ways = _ways(seen, at, lambda thing: thing in free)
    goals = [cell for cell in ways if _thing(seen, cell) == wanted]
    goals = goals or [cell for cell in ways if any(_thing(seen, n) == HIDDEN for _, n in _around(cell))]
    goal = rng.choice(sorted(goals)) if goals else at
    return goal, (ways[goal] or [rng.choice(list(MOVES))])[0]


def _around(cell: Cell) -> Iterator[tuple[str, Cell]]:
    for name, (di, dj) in MOVES.items():
        yield name, (cell[0] + di, cell[1] + dj)


def _ways(rows: Sequence[str], start: Cell, passes: Callable[[str], bool]) -> dict[Cell, list[str]]:
    """A shortest way, as moves, to each cell that can be reached through such cells."""
    ways: dict[Cell, list[str]] = {start: []}
    todo = deque([start])
    while todo:
        cell = todo.popleft()
        for name, target in _around(cell):
            if target not in ways and passes(_thing(rows, target)):
                ways[target] = [*ways[cell], name]
                todo.append(target)
    return ways


def solution(level: Level) -> list[str] | None:
    """A shortest way to the key and on to the door, for who knows the whole level; None without one."""
    free = {FREE, START, DOOR, level.key}
    key = level.find(level.key)
    first = _ways(level.rows, level.find(START), lambda thing: thing in free).get(key)
    then = _ways(level.rows, key, lambda thing: thing in free).get(level.find(DOOR))
    return None if first is None or then is None else [*first, *then]


def split_of(level: Level) -> Split:
    """By a hash of the level."""
    share = int(hashlib.sha256(str(level).encode()).hexdigest()[:8], 16) / 2**32
    for split, size in SHARES.items():
        share -= size
        if share < 0:
            return split
    return "test"


def draw_levels(split: Split, seed: int = 0, size: int = SIZE) -> Iterator[Level]:
    """Different levels of a split, without an end: with two keys and WALLS walls, SHORTEST moves long."""
    rng = random.Random(f"gridworld/{split}/{seed}/{size}")
    seen: set[Level] = set()
    while True:
        colours = rng.sample(list(COLOURS), 2)
        things = [START, DOOR, *(name[0] for name in colours), *WALL * WALLS]
        things += FREE * (size * size - len(things))
        rng.shuffle(things)
        level = Level(colours[0], tuple("".join(things[i * size : (i + 1) * size]) for i in range(size)))
        way = solution(level) if split_of(level) == split and level not in seen else None
        if way is not None and len(way) in SHORTEST:
            seen.add(level)
            yield level


def make_examples(split: Split, n: int, seed: int = 0, size: int = SIZE) -> list[Example]:
    """`n` rows, each with its level. meta: moves, of a shortest way, which is the answer."""
    return [
        Example(row["id"], row["problem"], row["answer"], meta={"moves": row["moves"]}, game=row["game"])
        for row in _rows(split, n, seed, size)
    ]


def _rows(split: Split, n: int, seed: int, size: int) -> Iterator[dict[str, Any]]:
    for i, level in zip(range(n), draw_levels(split, seed, size)):
        way = solution(level) or []
        texts = {
            "problem": level.task,
            "answer": " ".join(way),
            "id": f"{split}-{seed}-{i:05d}",
            "game": str(level),
        }
        yield {"images": [], **texts, "moves": len(way)}


def export(
    folder: str | Path, rows: dict[Split, int] | None = None, seed: int = 0, size: int = SIZE
) -> list[Path]:
    """Write SPLIT.parquet per split (images, problem, answer, id, game, moves); returns the files."""
    splits = {split: _rows(split, n, seed, size) for split, n in (ROWS if rows is None else rows).items()}
    return write_splits(folder, splits, {"id": "string", "game": "string", "moves": "int32"})
