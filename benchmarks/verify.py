"""How often verifiers are right on the labelled corpus, and how many answers a second they judge: `make
bench-verify`.

All in one run on one machine, each in its own process, so that one that hangs can be killed. Three loads: the
corpus, where nearly every answer is written in a way of its own; a step on the corpus (golds with 8 responses
of about 300 words); and a step on golds as Geometry3K has them, seven plain numbers in ten. Rates are per
second of CPU time, which a busy machine does not blur. mathruler is measured where it is installed (`pip
install mathruler==0.1.0 tqdm`); math-verify comes with our extra `verify`.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from collections.abc import Callable
from pathlib import Path

CORPUS = Path(__file__).parents[1] / "tests" / "verify" / "corpus.jsonl"
DEADLINE = 5.0  # seconds for one answer, after which it counts as a hang
GROUP = 8  # responses per gold in a training step
WORDS = (
    "so the base angles are equal and by the Pythagorean theorem we get that the side of the triangle is "
    "therefore "
)

Judge = Callable[[str, str], bool]


def ours() -> Judge:
    from gmpo_vl.verify import verify

    return lambda gold, response: verify(gold, response).correct


def mathruler() -> Judge:
    from mathruler.grader import extract_boxed_content, grade_answer  # pyright: ignore[reportMissingImports]

    return lambda gold, response: bool(grade_answer(extract_boxed_content(response), gold))


def math_verify() -> Judge:
    from math_verify import parse, verify

    return lambda gold, response: bool(verify(parse(f"${gold}$"), parse(response)))


PEERS = {"gmpo_vl strict": ours, "mathruler": mathruler, "math-verify": math_verify}


def reply(load: Callable[[], Judge], pipe) -> None:
    """The child: judge what comes through the pipe."""
    try:
        judge = load()
    except ImportError as error:
        pipe.send(str(error))
        return
    pipe.send("")
    while True:
        for gold, response in pipe.recv():
            start = time.process_time()
            try:
                said = judge(gold, response)
            except Exception:  # a grader that raises has refused
                said = False
            pipe.send((said, time.process_time() - start))


class Peer:
    """A grader in a process of its own."""

    def __init__(self, load: Callable[[], Judge]):
        self.load = load
        self.start()

    def start(self) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(
            target=reply, args=(self.load, theirs), daemon=True
        )
        self.process.start()
        self.missing = self.pipe.recv()

    def ask(self, pairs: list[tuple[str, str]]) -> tuple[list[bool | None], float]:
        """The decision on each pair, None for a hang, and the CPU seconds they took; a hang counts its
        deadline."""
        said: list[bool | None] = []
        seconds = 0.0
        self.pipe.send(pairs)
        while len(said) < len(pairs):
            if self.pipe.poll(DEADLINE):
                decision, spent = self.pipe.recv()
                said.append(decision)
                seconds += spent
                continue
            self.process.kill()
            self.start()
            said.append(None)
            seconds += DEADLINE
            self.pipe.send(pairs[len(said) :])
        return said, seconds


def plain(gold: str) -> str | None:
    """The gold as the peers take it; None for one with settings, which only ours can read."""
    return None if '"gold"' in gold else gold


def step(rows: list[dict], draw: random.Random) -> list[tuple[str, str]]:
    """A training step's pairs: right and wrong answers of the corpus at the end of some reasoning."""
    by_gold: dict[str, list[str]] = {}
    for row in rows:
        by_gold.setdefault(row["gold"], []).append(row["answer"])
    pairs = []
    for gold, answers in by_gold.items():
        for answer in draw.choices(answers, k=GROUP):
            pairs.append((gold, f"<think>{WORDS * 15}</think> The answer is \\boxed{{{answer}}}."))
    return pairs


def geometry_step(draw: random.Random) -> list[tuple[str, str]]:
    """A step on geometry: integers, decimals, radicals and multiples of pi in Geometry3K's proportions, half
    of them right.
    """

    def number() -> str:
        kind = draw.random()
        if kind < 0.7:
            return str(draw.randint(1, 180))
        if kind < 0.9:
            return f"{draw.uniform(1, 99):.1f}"
        return (
            f"{draw.randint(2, 20)} \\sqrt {{ {draw.randint(2, 40)} }}"
            if kind < 0.97
            else f"{draw.randint(2, 50)} \\pi"
        )

    pairs = []
    for _ in range(100):
        gold = number()
        for _ in range(GROUP):
            answer = gold if draw.random() < 0.5 else number()
            pairs.append((gold, f"<think>{WORDS * 15}</think> The answer is \\boxed{{{answer}}}."))
    return pairs


def main() -> None:
    rows = [
        row for row in map(json.loads, CORPUS.read_text(encoding="utf-8").splitlines()) if plain(row["gold"])
    ]
    draw = random.Random(0)
    pairs = draw.sample(step(rows, draw), 800)
    print(
        f"{len(rows)} labelled answers, {sum(r['correct'] for r in rows)} right; step: {len(pairs)} responses"
    )
    geometry = geometry_step(draw)
    print("rates: answers per second of CPU, on the corpus, on its step, on the geometry step")
    print(
        f"{'grader':16} {'right %':>8} {'refused':>8} {'accepted':>9} {'hangs':>6} {'corpus/s':>9} "
        f"{'step/s':>9} {'geometry/s':>11}"
    )
    for name, load in PEERS.items():
        peer = Peer(load)
        if peer.missing:
            print(f"{name:16} not installed ({peer.missing})")
            continue
        _, plainest = peer.ask(geometry)  # the steps first, with empty caches
        _, warm = peer.ask(pairs)
        said, cold = peer.ask([(row["gold"], f"\\boxed{{{row['answer']}}}") for row in rows])
        refused = sum(row["correct"] and not s for row, s in zip(rows, said))
        accepted = sum(bool(s) and not row["correct"] for row, s in zip(rows, said))
        right = 100 * (1 - (refused + accepted) / len(rows))
        print(
            f"{name:16} {right:8.1f} {refused:8} {accepted:9} {said.count(None):6} {len(rows) / cold:9,.0f} "
            f"{len(pairs) / warm:9,.0f} {len(geometry) / plainest:11,.0f}",
            flush=True,
        )
        peer.process.kill()


if __name__ == "__main__":
    main()
