"""What a run works with: the engine, the data, where it stands, and whether it was asked to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol, TypeAlias

import torch

from gmpo_vl.config import Config
from gmpo_vl.data.examples import EpochOrder
from gmpo_vl.engines.checkpoint import Progress
from gmpo_vl.engines.fingerprint import Fingerprint
from gmpo_vl.engines.loggers import Logger
from gmpo_vl.engines.look_probe import LookProbe
from gmpo_vl.engines.parity import Parity
from gmpo_vl.engines.passes import LogProbs
from gmpo_vl.engines.start import Start
from gmpo_vl.models.packing import Way
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.rewards.loading import Reward
from gmpo_vl.rollout.episodes import Games
from gmpo_vl.runs import Run
from gmpo_vl.storage.manifest import Written
from gmpo_vl.types import Example, Group, Prompt, Sampling

# What a policy is asked: prompts, or rows whose games it plays.
Asked: TypeAlias = list[Prompt] | list[Example]


class Engine(Protocol):
    """The process or processes that hold the model. Results come in the order of the groups that went in.

    can_share: may there be a shared forward for this model and loss? known: need it not be proved before it
    is used? way: of the forwards in every pass from now on.
    """

    can_share: bool
    known: bool

    @property
    def way(self) -> Way: ...
    @way.setter
    def way(self, way: Way) -> None: ...

    def sampler(self) -> AbstractContextManager[None]:
        """Within it `generate` may be called, with the weights of now."""
        ...

    def keeping_features(self) -> AbstractContextManager[None]:
        """Within it, features of a frozen ViT may be kept for the next pass over the same prompts."""
        ...

    def generate(
        self,
        prompts: Sequence[Prompt],
        positions: Sequence[int],
        sampling: Sampling,
        progress: Callable[[int], None],
    ) -> list[Group]:
        """`sampling.n` responses to every prompt. positions: in the data order, for the seeds. progress: told
        how many prompts are done; what it raises ends the sampling."""
        ...

    def check_parity(self, groups: Sequence[Group]) -> Parity:
        """The shared forward against the plain one, on some of the groups."""
        ...

    def log_probs(self, groups: Sequence[Group]) -> LogProbs:
        """log pi of the current policy."""
        ...

    def reference_log_probs(self, groups: Sequence[Group]) -> list[list[torch.Tensor]]:
        """log pi of the starting model: of every group, of every response (T,)."""
        ...

    def update(
        self, groups: Sequence[Group], lr: float, progress: Callable[[int], None], noise_step: int | None
    ) -> dict[str, float]:
        """The step's mini-batch updates; their metrics. noise_step: as in updates.update_policy."""
        ...

    def tolerated_mismatch(self) -> dict[str, float]:
        """Largest accepted value of some `rollout/mismatch_*`."""
        ...

    def save(self, folder: Path, resumable: bool) -> Mapping[str, Written]:
        """Write the weights into a checkpoint's folder, and if it is resumable whatever else training needs.

        Returns the files that were hashed where they were written, by their paths in the folder.
        """
        ...


@dataclass
class Session:
    """Everything a run works with, made once by `open_session`. mismatch: see mismatch.py; of every step.

    checked_length: tokens of the longest row that this process has seen when it checked parity.
    reward, games: one of them is None. told: why games broke, as far as it was printed. told_filter:
    was it said that the limits of the filter do not fit the scores?
    """

    config: Config
    run: Run
    engine: Engine
    reward: Reward | None
    games: Games | None
    prompts: PromptSet
    start: Start
    data: Fingerprint  # of the prompts
    validation: PromptSet | None
    order: EpochOrder
    next_prompts: Prefetch
    total_steps: int
    progress: Progress
    first_step: int
    stop: StopRequest
    loggers: list[Logger]
    mismatch: list[dict[str, float]]
    look: LookProbe | None = None  # of `look/*`; None: they are not measured
    probe: list[Group] | None = None  # of `actor/kl_to_start`; made in the first step
    checked_length: int = 0
    told: set[str] = field(default_factory=set)
    told_filter: bool = False

    def sample(
        self,
        prompts: Sequence[Prompt],
        positions: Sequence[int],
        sampling: Sampling,
        advance: Callable[[int], None] = lambda _count: None,
    ) -> list[Group]:
        """The engine's rollouts. A request to stop ends them: Stopped is raised."""

        def progress(count: int) -> None:
            advance(count)
            self.stop.raise_if_asked()

        self.stop.raise_if_asked()
        return self.engine.generate(prompts, positions, sampling, progress)


class Prefetch:
    """`encode(position, count)`; a thread decodes and tokenises the stretch that follows meanwhile."""

    def __init__(self, encode: Callable[[int, int], Asked]):
        self._encode = encode
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._next: tuple[tuple[int, int], Future[Asked]] | None = None

    def __call__(self, position: int, count: int) -> Asked:
        """Raises an error of the thread when its stretch is asked for."""
        if self._next is not None and self._next[0] == (position, count):
            asked = self._next[1].result()
        else:
            asked = self._encode(position, count)
        following = (position + count, count)
        self._next = following, self._pool.submit(self._encode, *following)
        return asked

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Stopped(SystemExit):
    """The run was asked to stop, at a place where what is saved is a state between two steps.

    Uncaught, it ends the process as shells and schedulers expect after this signal: with 128 + its number.
    """

    def __init__(self, number: int):
        super().__init__(128 + number)


class StopRequest:
    """Ctrl-C and SIGTERM: the first asks the run to save and stop, the second stops it at once.

    A context manager: the former handlers come back afterwards.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._former: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def raise_if_asked(self) -> None:
        if self.number is not None:
            raise Stopped(self.number)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
        name = signal.Signals(number).name
        print(f"\n{name}: saving, then stopping (once more to stop at once)", flush=True)
