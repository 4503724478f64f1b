"""Environments as a user would write them, sound and broken ones."""

import os
import random
import signal
import sys
import time

from PIL import Image

from gmpo_vl.environments import Observation, Step
from gmpo_vl.environments.isolated import Isolation


class Counting:
    """Guess numbers: all chance is in the seed. The picture's colour is the last guess."""

    def __init__(self, example, most=9):
        self.problem, self.most = example.problem, most

    def reset(self, seed):
        self.random = random.Random(seed)
        return self.seen(0)

    def seen(self, shade):
        picture = Image.new("RGB", (8, 8), (shade, 0, 0))
        return Observation(
            f"<image> {self.random.randint(0, self.most)} of {self.problem}", (picture,), ("1", "2")
        )

    def step(self, answer):
        print("what it prints is no reply")
        drawn = self.random.randint(0, self.most)
        return Step(
            self.seen(min(255, len(answer))),
            drawn / 2,
            drawn == 0,
            False,
            0.25,
            answer.strip(),
            {"drawn": drawn, "pair": (1, None), "process": os.getpid()},
        )

    def close(self):
        pass


class Isolated(Counting):
    isolate = Isolation(deadline=600.0, games=2)


class Breaks(Counting):
    """Does what the answer names."""

    isolate = Isolation(deadline=0.5)

    def reset(self, seed):
        if seed == 13:
            raise RuntimeError("no luck today")
        return super().reset(seed)

    def step(self, answer):
        if answer == "raise":
            raise KeyError("a lost key")
        if answer == "exit":
            sys.exit()
        if answer == "interrupt":
            raise KeyboardInterrupt
        if answer == "nothing":
            return None
        if answer == "tags":
            return Step(Observation("<image> <image>", (Image.new("RGB", (8, 8)),)), 0.0, False, False)
        if answer == "nan":
            return Step(Observation("x"), float("nan"), False, False)
        if answer == "info":
            return Step(Observation("x"), 0.0, False, False, info={"game": self})
        if answer == "wait":
            while True:
                time.sleep(1)
        if answer == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(answer)

    def close(self):
        sys.exit("and out")


class NeverMade(Counting):
    def __init__(self, example, code=None):
        if code is not None:
            sys.exit(code)
        raise OSError(f"no board for {example.id}")


class ExitsLoading(Counting):
    @staticmethod
    def check_settings():
        sys.exit(3)


class Overwrites(Counting):
    """Its pictures are one file, drawn anew at every turn."""

    def __init__(self, example, file):
        super().__init__(example)
        self.file = file

    def seen(self, shade):
        seen = super().seen(shade)
        seen.images[0].save(self.file)
        return Observation(seen.text, (self.file,), seen.actions)


class Unfinished:
    def __init__(self, example):
        pass

    def reset(self, seed):
        return Observation("")


class Choosy(Counting):
    template = "choosy.jinja"

    @staticmethod
    def check_settings(most=9):
        if most < 1:
            raise ValueError(f"most: {most} is below 1")

    @staticmethod
    def isolate(most=9):
        return most > 100
