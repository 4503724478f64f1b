"""All rows of the data, a few at a time, here or in worker processes; reports come back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from gmpo_vl.config import Config
from gmpo_vl.config.schema import EnvironmentConfig
from gmpo_vl.data.examples import open_checked
from gmpo_vl.environments.loading import load_environment
from gmpo_vl.models.loading import model_config, model_folder
from gmpo_vl.models.processing import Processor, load_processor
from gmpo_vl.models.prompts import PromptSettings, prompt_settings
from gmpo_vl.preflight.reward_check import GoldCheck
from gmpo_vl.preflight.row_check import RowChecker, RowReport
from gmpo_vl.processes import fork_server
from gmpo_vl.rewards.loading import load_reward

CHUNK = 32  # rows handed to a worker at once
IN_FLIGHT = 4  # chunks waiting for each worker
# A worker loads tokenizer and libraries first, which takes as long as a thousand rows.
ROWS_WORTH_A_WORKER = 2000

Chunk = tuple[str, range]


@dataclass(frozen=True)
class DataToCheck:
    """Splits and their sources, how rows become prompts, model and reward. It is sent to worker processes."""

    sources: Mapping[str, str]
    settings: PromptSettings
    model: str | None  # None: rows are looked at without counting tokens
    chat_template: str | None
    reward: str | None
    reward_kwargs: Mapping[str, Any] = field(default_factory=dict)
    ask_judge: int = 0  # rows of each split that a reward is asked about which asks an endpoint
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    run_seed: int = 1
    first_turns: bool = True  # of games; False: a row is looked at without making its game

    def processor(self) -> Processor | None:
        """Raises ValueError where the model cannot answer, before any row is read."""
        if self.model is None:
            return None
        model_config(self.model)
        return load_processor(self.model, self.chat_template)

    def checkers(self) -> dict[str, RowChecker]:
        """A checker for each split. Raises DataError (a source) or ValueError (the model, the reward or the
        environment)."""
        processor = self.processor()
        reward = load_reward(self.reward, self.reward_kwargs) if self.reward is not None else None
        golds = GoldCheck(reward)
        most = self.ask_judge if reward is not None and reward.asks_endpoint else None
        of = self.environment
        plays, make = of.name is not None, None
        if of.name is not None and self.first_turns:
            make = load_environment(of.name, of.settings, of.template, of.isolate)
        more = most, plays, make, self.run_seed
        return {
            split: RowChecker(
                split, open_checked(source, self.settings.columns), self.settings, processor, golds, *more
            )
            for split, source in self.sources.items()
        }


def data_to_check(config: Config, with_model: bool = True) -> DataToCheck:
    """What a run's configuration names. with_model: False where the model cannot be had."""
    data, model, reward = config.data, config.worker.actor.model, config.worker.reward
    files = {"train": data.train_files, "validation": data.val_files}
    return DataToCheck(
        sources={split: source for split, source in files.items() if source},
        settings=prompt_settings(data),
        model=str(model_folder(str(model.tokenizer_path or model.model_path))) if with_model else None,
        chat_template=data.override_chat_template,
        reward=reward.reward_function,
        reward_kwargs=dict(reward.reward_function_kwargs),
        environment=config.environment,
        run_seed=config.worker.rollout.seed,
    )


def scan(
    wanted: DataToCheck,
    checkers: Mapping[str, RowChecker],
    workers: int,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[str, RowReport]]:
    """(split, report) of every row, in the order of the rows. workers: processes; 0: this one.

    Raises ChildProcessError naming the rows a worker died of (a decoder that crashed, or no memory left).
    """
    chunks = _chunks(checkers)
    found = _here(checkers, chunks) if workers == 0 else _in_workers(wanted, chunks, workers)
    for (split, rows), reports in found:
        for report in reports:
            yield split, report
        if progress is not None:
            progress(len(rows))


def useful_workers(num_rows: int, cores: int) -> int:
    """Processes that are worth their start; 0 for a small set."""
    wanted = min(cores, num_rows // ROWS_WORTH_A_WORKER)
    return wanted if wanted > 1 else 0


def _chunks(checkers: Mapping[str, RowChecker]) -> Iterator[Chunk]:
    for split, checker in checkers.items():
        for start in range(0, checker.num_rows, CHUNK):
            yield split, range(start, min(start + CHUNK, checker.num_rows))


def _here(
    checkers: Mapping[str, RowChecker], chunks: Iterator[Chunk]
) -> Iterator[tuple[Chunk, list[RowReport]]]:
    for split, rows in chunks:
        yield (split, rows), list(checkers[split].check(rows))


def _in_workers(
    wanted: DataToCheck, chunks: Iterator[Chunk], workers: int
) -> Iterator[tuple[Chunk, list[RowReport]]]:
    """Only a few chunks are under way at a time, so memory does not grow with the rows."""
    context = fork_server(["gmpo_vl.preflight.row_scan", "datasets"])  # imported once, not by every worker
    waiting: deque[tuple[Chunk, Future[list[RowReport]]]] = deque()
    with ProcessPoolExecutor(workers, context, initializer=_open, initargs=(wanted,)) as pool:

        def send(count: int) -> None:
            waiting.extend((chunk, pool.submit(_check, chunk)) for chunk in islice(chunks, count))

        send(workers * IN_FLIGHT)
        try:
            while waiting:
                chunk, future = waiting.popleft()
                reports = _result(future, chunk)
                send(1)
                yield chunk, reports
        finally:  # stopped in the middle: what no worker has begun is not begun
            pool.shutdown(wait=False, cancel_futures=True)


def _result(future: Future[list[RowReport]], chunk: Chunk) -> list[RowReport]:
    try:
        return future.result()
    except BrokenProcessPool as error:
        split, rows = chunk
        raise ChildProcessError(
            f"a worker died near rows {rows.start} to {rows.stop - 1} of {split}: a picture its decoder "
            "crashes on, or no "
            "memory left. `--workers 0` looks at the rows one by one in this process"
        ) from error


_checkers: dict[str, RowChecker] = {}  # of a worker process


def _open(wanted: DataToCheck) -> None:
    import signal

    import datasets
    import torch

    # Ctrl-C reaches every process of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    _checkers.update(wanted.checkers())


def _check(chunk: Chunk) -> list[RowReport]:
    split, rows = chunk
    return list(_checkers[split].check(rows))
