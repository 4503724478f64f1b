"""CountDown: reach a target with + - * / and brackets, using every given number exactly once. All puzzles are
solvable.

    draw_puzzles("train", 1000)                 as in the public set (Jiayi-Pan/Countdown-Tasks-3to4)
    draw_puzzles("train", 1000, TINY)           small numbers: what a model of a million parameters can learn
    export("data/countdown", {"train": 1000})   a parquet file per split, in EasyR1's columns

Values are exact fractions. A hash of a puzzle's numbers (in any order) and its target gives its split. So
splits share no puzzle, whatever the seed. Everything is a function of (split, rules, seed).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, combinations_with_replacement
from math import comb
from pathlib import Path
from typing import Any, Literal

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.data.rows import DataError
from gmpo_vl.data.writing import write_splits

Split = Literal["warmup", "train", "validation", "test"]

# Shares of all puzzles, in this order. The warm-up is supervised, before the reinforcement learning.
SHARES: dict[Split, float] = {"warmup": 0.5, "train": 0.25, "validation": 0.08, "test": 0.17}

PUBLIC_PROMPT = (Path(__file__).parent / "prompt.txt").read_text(encoding="utf-8").strip()
TINY_PROMPT = "Make {target} of {numbers}."

DRAWS = 2_000  # of numbers for a target; some hundred find a puzzle of the public kind
IN_VAIN = 20  # targets in a row without a new puzzle, before it gives up
FEW = 2_000  # up to so many sets of numbers, all puzzles are listed instead


@dataclass(frozen=True)
class Rules:
    """What puzzles look like. The defaults are the public set's.

    sizes: how many numbers a puzzle has, each equally often. Numbers are 1..largest, repeats allowed.
        targets: both
    ends included, each equally often. prompt: with {numbers} and {target}.
    """

    sizes: tuple[int, ...] = (3, 4)
    largest: int = 99
    targets: tuple[int, int] = (10, 100)
    prompt: str = PUBLIC_PROMPT


PUBLIC = Rules()
TINY = Rules(sizes=(3,), largest=10, targets=(1, 60), prompt=TINY_PROMPT)


@dataclass(frozen=True)
class Puzzle:
    numbers: tuple[int, ...]
    target: int

    @property
    def key(self) -> str:
        """The same for every order of the numbers."""
        return f"{'-'.join(map(str, sorted(self.numbers)))}={self.target}"


def split_of(puzzle: Puzzle) -> Split:
    """By a hash of its numbers and its target."""
    share = int(hashlib.sha256(puzzle.key.encode()).hexdigest()[:8], 16) / 2**32
    for split, size in SHARES.items():
        share -= size
        if share < 0:
            return split
    return "test"


def reaches(terms: Sequence[tuple[int, int]], target: int) -> bool:
    """Whether an expression of all terms (numerator, denominator) gives the target: `solve` without the
    expression.

    In whole numbers, which is many times faster; denominators may be negative, never 0.
    """
    if len(terms) == 1:
        return terms[0][0] == target * terms[0][1]
    if len(terms) == 2:  # halves the time
        (a, b), (c, d) = terms
        both = target * b * d
        if both in (a * d + c * b, a * d - c * b, c * b - a * d, a * c):
            return True
        return (c != 0 and a * d == target * b * c) or (a != 0 and c * b == target * a * d)
    for i, j in combinations(range(len(terms)), 2):
        (a, b), (c, d) = terms[i], terms[j]
        results = [(a * d + c * b, b * d), (a * d - c * b, b * d), (c * b - a * d, b * d), (a * c, b * d)]
        results += ([(a * d, b * c)] if c else []) + ([(c * b, a * d)] if a else [])
        rest = [term for k, term in enumerate(terms) if k not in (i, j)]
        if any(reaches([*rest, result], target) for result in results):
            return True
    return False


def every_puzzle(split: Split, rules: Rules) -> list[Puzzle]:
    """All puzzles of a split, numbers in rising order; for rules with few."""
    found = []
    for size in rules.sizes:
        for numbers in combinations_with_replacement(range(1, rules.largest + 1), size):
            for target in range(rules.targets[0], rules.targets[1] + 1):
                puzzle = Puzzle(numbers, target)
                if split_of(puzzle) == split and reaches([(number, 1) for number in numbers], target):
                    found.append(puzzle)
    return found


def draw_puzzles(split: Split, n: int, rules: Rules = PUBLIC, seed: int = 0) -> Iterator[Puzzle]:
    """`n` different puzzles of a split, each solvable: a target first, then numbers until they reach it.

    Under rules with few puzzles, any `n` of them all. Raises DataError where there are fewer than were asked
    for.
    """
    rng = random.Random(f"countdown/{split}/{rules.sizes}/{rules.largest}/{rules.targets}/{seed}")
    if sum(comb(rules.largest + size - 1, size) for size in rules.sizes) <= FEW:
        every = every_puzzle(split, rules)
        if len(every) < n:
            raise DataError(f"countdown: {split} has {len(every)} puzzles of this kind; ask for no more rows")
        yield from (
            Puzzle(tuple(rng.sample(p.numbers, len(p.numbers))), p.target) for p in rng.sample(every, n)
        )
        return
    seen: set[str] = set()
    in_vain = 0
    while len(seen) < n:
        puzzle = _for_target(rng.randint(*rules.targets), rng.choice(rules.sizes), rules, split, rng)
        if puzzle is not None and puzzle.key not in seen:
            seen.add(puzzle.key)
            yield puzzle
            in_vain = 0
        elif (in_vain := in_vain + 1) == IN_VAIN:
            raise DataError(
                f"countdown: after {len(seen)} puzzles of {split} no other was found; ask for fewer rows"
            )


def _for_target(target: int, size: int, rules: Rules, split: Split, rng: random.Random) -> Puzzle | None:
    """Numbers that reach the target, drawn until they do; None where these draws found none."""
    for _ in range(DRAWS):
        puzzle = Puzzle(tuple(rng.randint(1, rules.largest) for _ in range(size)), target)
        if split_of(puzzle) == split and reaches([(number, 1) for number in puzzle.numbers], target):
            return puzzle
    return None


def row_of(puzzle: Puzzle, rules: Rules = PUBLIC) -> dict[str, Any]:
    """A row in EasyR1's columns; the reward `countdown` reads its answer."""
    return {
        "images": [],
        "problem": rules.prompt.format(numbers=", ".join(map(str, puzzle.numbers)), target=puzzle.target),
        "answer": encode_answer(puzzle.target, type="countdown", choices=list(map(str, puzzle.numbers))),
        "id": puzzle.key,
    }


def export(folder: str | Path, rows: dict[Split, int], rules: Rules = PUBLIC, seed: int = 0) -> list[Path]:
    """Write SPLIT.parquet per split with the columns images, problem, answer, id; returns the files."""
    made = {s: map(partial(row_of, rules=rules), draw_puzzles(s, n, rules, seed)) for s, n in rows.items()}
    return write_splits(folder, made, {"id": "string"})
