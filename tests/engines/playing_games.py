"""Games for the tests of playing: what an answer leads to depends on its letters, as rewards of tiny_runs.py,
since no tiny random model answers sensibly."""

import random
import time
from dataclasses import replace

from PIL import Image

from gmpo_vl.environments import Observation, Step
from gmpo_vl.environments.isolated import Isolation


def luck(answer: str) -> int:
    return sum(map(ord, answer))


class Once:
    """A question with one answer, scored as tiny_runs.REWARD does."""

    template = "once.jinja"

    def __init__(self, example):
        self.example = example

    def reset(self, seed):
        return Observation(self.example.problem, self.example.images)

    def step(self, answer):
        right = float(luck(answer) % 3 == 0)
        return Step(Observation(""), right, True, False, action="a", info={"won": bool(right)})

    def close(self):
        pass


class Walk:
    """A walk through numbered rooms with pictures; every third answer is no step."""

    def __init__(self, example, pictures=True):
        self.name, self.pictures = example.id, pictures
        self.open = 0

    def reset(self, seed):
        self.open += 1
        self.random = random.Random(seed)
        self.room = self.random.randint(0, 2)
        return self.seen()

    def seen(self):
        shade = Image.new("RGB", (28, 28), (80 * self.room, 40, 40))
        pictures = (shade,) if self.pictures else ()
        return Observation("<image>" * self.pictures + f"Room {self.room}.", pictures, ("on", "back"))

    def step(self, answer):
        valid = luck(answer) % 3 != 0
        self.room += valid * (1 + luck(answer) % 2)
        won, lost = self.room >= 4, self.random.random() < 0.1
        return Step(
            self.seen(),
            float(won),
            won or lost,
            False,
            0.0 if valid else 0.1,
            "on" if valid else "none",
            {"won": won, "valid": valid},
        )

    def close(self):
        self.open -= 1


class WonThenBreaks(Walk):
    """It says that it is won, and some games break at the turn after."""

    def step(self, answer):
        told, self.told = getattr(self, "told", False), True
        if told and luck(answer) % 3 == 0:
            raise KeyError("a lost key")
        return Step(self.seen(), 1.0, told, False, info={"won": True})


class Long(Walk):
    """What is seen grows: some turn's prompt is too long."""

    def seen(self):
        return Observation(f"Room {self.room}. " + "Dark. " * 20 * getattr(self, "turn", 0))

    def step(self, answer):
        self.turn = getattr(self, "turn", 0) + 1
        return Step(self.seen(), 0.0, False, False, 0.0, "on")


class LongAtOnce(Walk):
    """The first turn is too long, but for the seed of the check before a run."""

    def reset(self, seed):
        super().reset(seed)
        return Observation("Dark. " * 100)


class Breaks(Walk):
    """One letter of an answer in three breaks it."""

    def step(self, answer):
        if luck(answer) % 3 == 1:
            raise KeyError("a lost key")
        return super().step(answer)


class NeverBegins(Walk):
    def reset(self, seed):
        raise OSError("no board")


class Sleeps(Walk):
    """Some answers take for ever, in a process that is killed."""

    isolate = Isolation(deadline=2.0)

    def step(self, answer):
        if luck(answer) % 3 == 1:
            time.sleep(60)
        return super().step(answer)


class Flat(Walk):
    """One letter of an answer in three leads to a picture that cannot be shown."""

    def __init__(self, example, size=None):
        super().__init__(example)
        self.bad = b"no picture" if size is None else Image.new("RGB", tuple(size))

    def step(self, answer):
        if luck(answer) % 3 == 1:
            return Step(Observation("<image>", (self.bad,)), 0.0, False, False)
        return super().step(answer)


class Apart(Walk):
    isolate = Isolation(deadline=600.0, games=2)


class Points(Walk):
    """A walk of -5 points a turn, and more for the last room, that never says whether it was won."""

    def __init__(self, example, pictures=True, worth=3.0):
        super().__init__(example, pictures)
        self.worth = worth

    def step(self, answer):
        step = super().step(answer)
        return replace(step, reward=self.worth * step.reward - 5.0, info={})
