"""Kills train, eval, convert and study at every change they make to the disk, and lets the same command go
on.

    python tests/kill_campaign.py [COMMAND ...] [--every K] [--first J] [--folder WORK]

What then lies on the disk must equal what an undisturbed command leaves: metrics (but times), rollouts,
pictures, checkpoints and samples to the byte, and nothing beside them. Prints for each command how many
changes it makes, how many kills there were and how many ended otherwise; exit code 1 where one did.
`kills.py` says what a change is.
"""

from __future__ import annotations

import argparse
import concurrent.futures.thread
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["OMP_NUM_THREADS"] = "1"

from kills import Changes, in_a_fork  # noqa: E402
from tiny_runs import BASE, protocol_text, settings_of_run  # noqa: E402

Files = dict[str, Any]
MEASURED = ("time/", "memory/", "perf/")
# Of one process, or what a killed one had done: not what the command is to leave.
OWN = ("lock", "log.txt", "ended.json", "timing.json", "metrics.discarded.jsonl", "rollouts.discarded.jsonl")


@dataclass(frozen=True)
class Case:
    """prepare: what lies in the folder before the command. first: what is killed, where it is not `command`.
    allowed(exit code, files, what `first` leaves undisturbed): is it right although it is not what the
    command leaves undisturbed? litter: half-written files may stay, since other processes may be writing
    them.
    """

    command: Callable[[], Any]
    prepare: Callable[[], Any] = lambda: None
    first: Callable[[], Any] | None = None
    allowed: Callable[[int, Files, Files], bool] = lambda _code, _files, _first: False
    litter: bool = False


def files_of(folder: Path) -> Files:
    """Every file's content by its path, without times."""
    found: Files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name == "metrics.jsonl":
            lines = map(json.loads, path.read_text().splitlines())
            found[name] = [{k: v for k, v in line.items() if not k.startswith(MEASURED)} for line in lines]
        elif path.is_dir():
            found[name] = None
        elif path.name == "data_card.json":  # but what stood there before: an undisturbed command finds less
            found[name] = {k: v for k, v in json.loads(path.read_text()).items() if k != "replaced"}
        elif path.name not in OWN and path.suffix not in (".html", ".png"):
            found[name] = path.read_bytes()
    return found


def campaign(name: str, case: Case, folder: Path, log: Path, kills_at: slice) -> int:
    """Runs a case with a kill at each change of `kills_at` (from 1 on).

    Returns how many were not made good for.
    """

    def attempt(kill_at: int) -> tuple[int, Files, int, Files, int]:
        """How the first command ended, what it left undisturbed; how the one after it ended, what is left;
        the first's changes.
        """
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(prepared, folder)
        log.unlink(missing_ok=True)
        changes = Changes(folder, kill_at)
        ended = in_a_fork(case.first or case.command, changes, log)
        left = {} if kill_at else files_of(folder)
        code = ended
        if kill_at or case.first:  # watched, too, so that it writes the same way
            code = in_a_fork(case.command, Changes(folder), log)
        return ended, left, code, files_of(folder), changes.count

    began, prepared = time.monotonic(), folder.with_name("prepared")
    for path in (prepared, folder):
        shutil.rmtree(path, ignore_errors=True)
    folder.mkdir()
    assert in_a_fork(case.prepare, log=log) == 0, log.read_text()
    folder.rename(prepared)
    _, first, code, whole, total = attempt(0)
    assert code == 0, log.read_text()
    wrong = kills = 0
    for kill_at in range(total + 1)[kills_at]:
        ended, _, code, files, _ = attempt(kill_at)
        kills += 1
        assert ended != 0, f"{name}: change {kill_at} did not come"
        if case.litter:
            files = {path: content for path, content in files.items() if not path.endswith(".partial")}
        if (code == 0 and files == whole) or case.allowed(code, files, first):
            continue
        wrong += 1
        differing = [n for n in sorted(files.keys() | whole.keys()) if files.get(n, 0) != whole.get(n, 0)]
        print(f"{name}: killed at change {kill_at} ({ended}), then exit {code}: {', '.join(differing)}")
        print("    " + "\n    ".join(log.read_text(errors="replace").splitlines()[-3:]), flush=True)
    seconds = time.monotonic() - began
    print(f"{name:16} {total} changes, {kills} kills, {wrong} wrong ({seconds:.0f} s)", flush=True)
    return wrong


def gmpo_vl(*arguments: object) -> Callable[[], Any]:
    def run() -> int:
        import torch

        from gmpo_vl.cli import main

        torch.set_num_threads(1)
        return main([str(argument) for argument in arguments])

    return run


def after(number: int, signal_number: int, command: Callable[[], Any]) -> Callable[[], Any]:
    """The command with a signal to itself when it has written step `number`'s metrics."""

    def run() -> Any:
        from gmpo_vl.runs import Run

        append = Run.append_metrics

        def append_and_signal(self: Run, step: int, metrics: dict[str, float]) -> None:
            append(self, step, metrics)
            if step == number:
                os.kill(os.getpid(), signal_number)

        Run.append_metrics = append_and_signal
        return command()

    return run


def forked(command: Callable[[], Any]) -> Callable[[], Any]:
    """A command whose own processes are forks of it:

    a server that they are forked from would import torch each time.
    """

    def run() -> Any:
        import multiprocessing
        from multiprocessing import forkserver

        context = multiprocessing.get_context("fork")
        multiprocessing.get_context = lambda *_: context  # type: ignore[assignment]
        forkserver.ensure_running = lambda: None  # type: ignore[assignment]
        # A fork by a pool's thread would wait for itself when it ends.
        os.register_at_fork(after_in_child=concurrent.futures.thread._threads_queues.clear)  # type: ignore[attr-defined]
        return command()

    return run


def training(inputs: Path, folder: Path) -> dict[str, Case]:
    (inputs / "run.yaml").write_text(BASE)
    settings = [
        *settings_of_run(inputs, inputs / "diagrams", inputs / "tiny"),
        f"trainer.save_checkpoint_path={folder / 'run'}",
        *("trainer.max_steps=3", "trainer.val_freq=1", "trainer.save_freq=1", "trainer.save_limit=1"),
        *("trainer.kl_to_start_freq=1", "trainer.kl_to_start_prompts=2"),
    ]
    train = gmpo_vl("train", inputs / "run.yaml", *settings)
    rarely = gmpo_vl(
        "train", inputs / "run.yaml", *settings, "trainer.save_freq=2", "trainer.save_best=false"
    )
    models = ("trainer.save_model_only=true", "trainer.save_best=false", "trainer.max_steps=2")
    only = gmpo_vl("train", inputs / "run.yaml", *settings, *models)

    def killed_before_its_checkpoint() -> None:
        assert in_a_fork(after(3, signal.SIGKILL, rarely)) == -signal.SIGKILL

    def only_weights_are_there(code: int, files: Files, first: Files) -> bool:
        """Killed before what can be gone on from was complete:

        the command says so, and the last weights are whole.
        """
        weights = "run/checkpoints/step_000001/huggingface/model.safetensors"
        return code == 2 and files.get(weights) == first[weights]

    return {
        "train": Case(train),
        "train-again": Case(rarely, prepare=killed_before_its_checkpoint),
        "train-stopped": Case(only, first=after(1, signal.SIGTERM, only), allowed=only_weights_are_there),
    }


def evaluation(inputs: Path, folder: Path) -> dict[str, Case]:
    (inputs / "small.yaml").write_text(protocol_text(n=2, chunk=2))
    data = ("--data", inputs / "diagrams/test.parquet", "--grader", "paper")
    command = gmpo_vl("eval", inputs / "tiny", "--protocol", inputs / "small.yaml", *data, "--out", folder)
    return {"eval": Case(command, litter=True)}


def conversion(inputs: Path, folder: Path) -> dict[str, Case]:
    """Into an empty folder, and over an earlier conversion of other rows with other splits."""
    for name, rows in (("one", 30), ("two", 40)):
        lines = [json.dumps({"q": f"What is {name} {i} + 1?", "a": str(i + 1)}) for i in range(rows)]
        (inputs / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    fields = 'problem: "{{ q }}"\nanswer: a\n'
    (inputs / "one.yaml").write_text(f"source: {inputs / 'one.jsonl'}\nvalidation: 0.3\n{fields}")
    (inputs / "two.yaml").write_text(f"source: {inputs / 'two.jsonl'}\nvalidation: 0.2\n{fields}")
    first, second = (
        gmpo_vl("data", "convert", inputs / f"{name}.yaml", folder / "out") for name in ("one", "two")
    )
    return {
        "convert": Case(first, litter=True),
        "convert-again": Case(second, prepare=first, litter=True),
    }


def study(inputs: Path, folder: Path) -> dict[str, Case]:
    import yaml

    own = [*settings_of_run(inputs, inputs / "diagrams", inputs / "tiny")][:-1]
    (inputs / "base.yaml").write_text(BASE)
    content = {
        "base": "base.yaml",
        "methods": {"gmpo": []},
        "learning_rates": [1e-3],
        "updates": {"u1": ["worker.actor.global_batch_size=2"]},
        "tuning_seeds": [1],
        "fresh_seeds": [11, 12, 13],
        "test_files": str(inputs / "diagrams/test.parquet"),
        "overrides": [*own, "data.rollout_batch_size=2", "trainer.max_steps=1", "trainer.val_freq=1"],
    }
    (inputs / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return {
        "study": Case(forked(gmpo_vl("study", inputs / "study.yaml", "--out", folder / "study")), litter=True)
    }


def make_inputs(inputs: Path) -> None:
    from gmpo_vl.models.tiny import save_tiny
    from gmpo_vl.tasks.diagrams.data import export

    export(inputs / "diagrams", {"train": 24, "validation": 4, "test": 4})
    save_tiny(inputs / "tiny")


def warm_up() -> None:
    """What the commands import, once:

    it takes longer than they do. Nothing is computed, so that there are no threads.
    """
    import datasets  # noqa: F401
    import matplotlib.pyplot  # noqa: F401

    import gmpo_vl.data.convert
    import gmpo_vl.engines.local.engine
    import gmpo_vl.evaluation.result_page
    import gmpo_vl.evaluation.sharing
    import gmpo_vl.study.phases  # noqa: F401


def run(names: Sequence[str], kills_at: slice, work: Path) -> int:
    inputs, folder, log = work / "inputs", work / "folder", work / "log.txt"
    inputs.mkdir(parents=True, exist_ok=True)
    os.environ.update(HF_DATASETS_CACHE=str(work / "cache"), HF_HUB_OFFLINE="1")
    warm_up()
    assert in_a_fork(lambda: make_inputs(inputs)) == 0
    cases = {}
    for part in (training, evaluation, conversion, study):
        cases |= part(inputs, folder)
    return sum(campaign(name, cases[name], folder, log, kills_at) for name in names or cases)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "commands", nargs="*", help="train, train-again, train-stopped, eval, convert, ... (all)"
    )
    parser.add_argument("--every", type=int, default=1, help="only each k-th change (1)")
    parser.add_argument(
        "--first", type=int, default=1, help="from this change on, so that two can share the work (1)"
    )
    parser.add_argument("--folder", type=Path, help="where to work (a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        kills_at = slice(options.first, None, options.every)
        sys.exit(1 if run(options.commands, kills_at, options.folder or Path(temporary)) else 0)
