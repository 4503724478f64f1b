"""A run's folder, an evaluation's and a study's, and the formats of their files (docs/formats.md)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from gmpo_vl.samples import SampleRecord, as_figure, read_samples, store_image, write_samples
from gmpo_vl.storage.files import (
    HALF_WRITTEN,
    append_jsonl,
    append_once,
    bad_line,
    make_room,
    move_aside,
    numbered,
    numbered_jsonl,
    read_object,
    sync,
    to_line,
    whole_file,
    write_bytes,
    write_json,
    write_text,
)
from gmpo_vl.storage.locks import check_lock
from gmpo_vl.storage.places import check_file, make_folder

_APPENDED = ("metrics.jsonl", "metrics.discarded.jsonl", "rollouts.discarded.jsonl")
_WRITTEN = (
    *_APPENDED,
    "config.yaml",
    "probe.pt",
    "picture_hashes.json",
    "weight_hashes.json",
    "train.bad_rows.jsonl",
    "validation.bad_rows.jsonl",
    "wandb_id.txt",
    "checkpoints/best.json",
)


class Run:
    """Paths of a run, and what is written there."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.metrics_file = self.folder / "metrics.jsonl"
        self.probe_file = self.folder / "probe.pt"
        self.checkpoints = self.folder / "checkpoints"

    def create(self) -> Run:
        """Make the folders. Raises OSError with a sentence where something is in the way of a run's files."""
        for part in ("rollouts", "images", "checkpoints"):
            make_folder(self.folder / part)
        for name in _WRITTEN:
            check_file(self.folder / name, appended=name in _APPENDED)
        for kind in ("step", "validation"):
            for _, path in numbered(self.folder / "rollouts", f"{kind}_", ".jsonl"):
                check_file(path)
        return self

    def append_metrics(self, step: int, metrics: dict[str, float]) -> None:
        check_lock(self.folder)
        figures = {key: as_figure(float(value)) for key, value in metrics.items()}
        append_jsonl(self.metrics_file, [{"step": step, **figures}])

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines; figures are finite numbers or None. ValueError names a line that no run writes."""
        if not self.metrics_file.exists():
            return []
        return [_figures(self.metrics_file, *line) for line in numbered_jsonl(self.metrics_file)]

    def disorder(self) -> list[str]:
        """A sentence for each line of metrics.jsonl whose step repeats or goes back: two runs wrote it."""
        found: list[str] = []
        lines: dict[int, int] = {}
        for number, row in numbered_jsonl(self.metrics_file) if self.metrics_file.exists() else ():
            step = _figures(self.metrics_file, number, row)["step"]
            where = f"{self.metrics_file}, line {number}: step {step}"
            if step in lines:
                found.append(f"{where} again, as in line {lines[step]}")
            elif lines and step < max(lines):
                found.append(f"{where} after step {max(lines)}")
            lines.setdefault(step, number)
        return found

    def missing_steps(self, last: int | None = None) -> str:
        """Steps up to `last` that have no line in metrics.jsonl, as "3, 5-9"; empty if none is missing.

        A run may go on from another run's checkpoint, so its first step is the first with a line or rollouts.
        Without `last`, as for a run that is going on: up to the last line, or to the last rollouts but one.
        """
        lines, rollouts = {line["step"] for line in self.read_metrics()}, self.rollout_steps()
        begun = [*lines, *rollouts] if last is None else [*lines, *rollouts, last]
        begun = [step for step in begun if last is None or step <= last]
        first = min((step for step in begun if step > 0), default=0)
        end = last if last is not None else max([*lines, *rollouts[:-1]], default=0)
        found = sorted({first - 1, *(step for step in lines if first <= step <= end), end + 1})
        holes = [(a + 1, b - 1) for a, b in pairwise(found) if b - a > 1]
        return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in holes) if first > 0 else ""

    def rollouts_file(self, step: int, kind: str = "step") -> Path:
        """`kind`: "step" for training rollouts, "validation" for the logged validation samples."""
        return self.folder / "rollouts" / f"{kind}_{step:06d}.jsonl"

    def write_rollouts(self, step: int, records: Iterable[SampleRecord], kind: str = "step") -> None:
        check_lock(self.folder)
        write_samples(self.rollouts_file(step, kind), records)

    def read_rollouts(self, step: int, kind: str = "step") -> list[SampleRecord]:
        path = self.rollouts_file(step, kind)
        return list(read_samples(path)) if path.exists() else []

    def rollout_steps(self, kind: str = "step") -> list[int]:
        return [n for n, path in numbered(self.folder / "rollouts", f"{kind}_", ".jsonl") if path.is_file()]

    def add_image(self, pixels_HWC: Any) -> str:
        """Keep a picture (uint8 array, height x width x 3) once; its sha256 is its name."""
        check_lock(self.folder)
        return store_image(self.folder / "images", pixels_HWC)

    def checkpoint_steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first. A copy, a link or a file beside them is none."""
        return [n for n, path in numbered(self.checkpoints, "step_") if path.is_dir()]

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step_{step:06d}"

    @contextmanager
    def new_checkpoint(self, step: int) -> Iterator[Path]:
        """A folder to write a checkpoint into. It gets its name when it is complete."""
        partial, replaced = self._unfinished("partial", step), self._unfinished("replaced", step)
        check_lock(self.folder)
        make_room(partial)
        make_room(replaced)
        partial.mkdir(parents=True)
        try:
            yield partial
        finally:
            check_lock(self.folder)  # another process here would have removed the folder
        for path in sorted(partial.rglob("*")):
            sync(path)
        sync(partial)
        if step in self.checkpoint_steps():
            os.rename(self.checkpoint(step), replaced)
        self._complete(partial, step)
        if replaced.exists():
            self._remove(replaced, step)

    def _complete(self, folder: Path, step: int) -> None:
        if os.path.lexists(self.checkpoint(step)):
            move_aside(self.checkpoint(step))
        os.rename(folder, self.checkpoint(step))
        sync(self.checkpoints)

    def remove_checkpoint(self, step: int) -> None:
        """It is renamed first: no part of it is ever left under its name."""
        check_lock(self.folder)
        self._remove(self.checkpoint(step), step)

    def _remove(self, folder: Path, step: int) -> None:
        removed = self._unfinished("removed", step)
        make_room(removed)
        os.rename(folder, removed)
        _remove_folder(removed)

    def _unfinished(self, state: str, step: int) -> Path:
        return self.checkpoints / f".{state}_step_{step:06d}"

    def clear_up(self) -> None:
        """Clear up after a killed process: checkpoints that were being written, replaced or removed,
        half-written files.

        For the process that holds the folder's lock.
        """
        for step, replaced in numbered(self.checkpoints, ".replaced_step_"):
            if step not in self.checkpoint_steps():  # killed between two renames: the new one is complete
                partial = self._unfinished("partial", step)
                self._complete(partial if partial.is_dir() else replaced, step)
        for state in ("partial", "replaced", "removed"):
            for _, path in numbered(self.checkpoints, f".{state}_step_"):
                if path.is_dir():
                    _remove_folder(path)
        for folder in (self.folder, self.folder / "rollouts", self.folder / "images", self.checkpoints):
            _remove_half_written(folder)

    def rewind(self, step: int) -> None:
        """Go back to a checkpoint's step. Later metrics and rollouts move to `*.discarded.jsonl`."""
        check_lock(self.folder)
        if self.metrics_file.exists():
            lines = self.read_metrics()
            late = [line for line in lines if line["step"] > step]
            append_once(self.folder / "metrics.discarded.jsonl", "".join(map(to_line, late)).encode())
            write_text(self.metrics_file, "".join(to_line(line) for line in lines if line["step"] <= step))
        for kind in ("step", "validation"):
            for late_step in self.rollout_steps(kind):
                if late_step > step:
                    path = self.rollouts_file(late_step, kind)
                    append_once(self.folder / "rollouts.discarded.jsonl", path.read_bytes())
                    path.unlink()
        if step < 0:  # the run begins again, from another start
            self.probe_file.unlink(missing_ok=True)


class EvaluationFolder:
    """eval/NAME: plan.json and chunks/ while an evaluation runs; samples.jsonl, results.json, timing.json
    when it is done.

    A chunk's file gets its name when it is complete. So a killed process leaves whole chunks only, and shards
    may share the folder.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.plan_file = self.folder / "plan.json"
        self.samples_file = self.folder / "samples.jsonl"
        self.results_file = self.folder / "results.json"
        self.timing_file = self.folder / "timing.json"
        self.images = self.folder / "images"
        self.chunks = self.folder / "chunks"

    def create(self) -> EvaluationFolder:
        """Make the folder. Raises OSError with a sentence where something is in the way of its files."""
        make_folder(self.images)
        if os.path.lexists(self.chunks):
            make_folder(self.chunks)
        for path in (self.plan_file, self.samples_file, self.results_file, self.timing_file):
            check_file(path)
        for _, path in numbered(self.chunks, "", ".jsonl"):
            check_file(path)
        return self

    @property
    def finished(self) -> bool:
        return self.results_file.exists()

    def finished_chunks(self) -> list[int]:
        return [n for n, path in numbered(self.chunks, "", ".jsonl") if path.is_file()]

    def write_chunk(self, number: int, records: Iterable[SampleRecord], seconds: float) -> None:
        """`seconds` go to another file, so samples and results are the same to the byte even after a kill."""
        self.chunks.mkdir(parents=True, exist_ok=True)
        write_text(self.chunks / f"{number:06d}.seconds", f"{seconds:.3f}\n")
        write_samples(self.chunks / f"{number:06d}.jsonl", records)

    def contents(self) -> dict[str, bytes]:
        """{path in the folder: bytes} of every file, to send a chunk that was answered on another machine."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in sorted(files)}

    def receive(self, contents: dict[str, bytes]) -> None:
        """Write another folder's `contents` here. A chunk comes after its pictures."""
        for name in sorted(contents, key=lambda name: name.endswith(".jsonl")):
            path = self.folder / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(path, contents[name], synced=False)

    def join_chunks(self, count: int) -> None:
        """Join `count` chunks to samples.jsonl in the order of their numbers, and their seconds to
        timing.json.

        Raises FileNotFoundError if one is gone: another process has finished the evaluation meanwhile.
        """
        seconds = 0.0
        with whole_file(self.samples_file) as partial, partial.open("wb") as file:
            for number in range(count):
                file.write((self.chunks / f"{number:06d}.jsonl").read_bytes())
                seconds += float((self.chunks / f"{number:06d}.seconds").read_text())
        write_json(self.timing_file, {"seconds": round(seconds, 3)})

    def remove_half_written(self) -> None:
        """Clear up after killed workers, when every chunk is there and nobody writes here any more."""
        for folder in (self.folder, self.images):
            _remove_half_written(folder)

    def remove_chunks(self) -> None:
        """And what was moved aside there, which has been answered again."""
        shutil.rmtree(self.chunks, ignore_errors=True)

    def take_chunks(self, other: EvaluationFolder) -> None:
        """Copy the chunks and pictures of a shard that ran in another folder."""
        _copy_missing(other.chunks, self.chunks)
        self.take_pictures(other)

    def take_pictures(self, other: EvaluationFolder) -> None:
        _copy_missing(other.images, self.images)

    def samples(self) -> Iterator[SampleRecord]:
        """Every sample of a finished evaluation. Raises FileNotFoundError where there is none."""
        if not self.samples_file.exists():
            unfinished = " (it is unfinished: run the same command again)" if self.plan_file.exists() else ""
            raise FileNotFoundError(f"{self.folder} holds no evaluation: no samples.jsonl{unfinished}")
        return read_samples(self.samples_file)

    def write_samples(self, records: Iterable[SampleRecord]) -> None:
        write_samples(self.samples_file, records)

    def results(self) -> dict[str, Any]:
        if not self.results_file.exists():
            raise FileNotFoundError(f"{self.folder} holds no finished evaluation: no results.json")
        advice = "put back what it was, or delete the folder and evaluate again"
        return read_object(self.results_file, advice, ("pass@1",)) or {}

    def plan(self) -> dict[str, Any] | None:
        keys = ("name", "protocol", "questions", "data", "model", "backend", "versions")
        return read_object(self.plan_file, "put back what it was, or delete the whole folder", keys)


class StudyFolder:
    """A study's folder: plan.json and base.yaml at first, then runs/PHASE/..., chosen.json between the
    phases, results.json at the end.

    A run's folder is `gmpo-vl train`'s; log.txt (what the command and the run printed) and ended.json are
    added.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.study_file = self.folder / "study.yaml"
        self.plan_file = self.folder / "plan.json"
        self.base_file = self.folder / "base.yaml"  # what the base said: it may be edited while runs go on
        self.chosen_file = self.folder / "chosen.json"
        self.results_file = self.folder / "results.json"
        self.page_file = self.folder / "report.html"
        self.figure_file = self.folder / "figure.png"

    def run(self, name: str) -> Run:
        return Run(self.folder / "runs" / name)

    def log_file(self, name: str) -> Path:
        return self.run(name).folder / "log.txt"

    def ending(self, name: str) -> dict[str, Any] | None:
        """How a run's process ended: {exit, error, seconds, versions}; None for one that has not."""
        path = self.run(name).folder / "ended.json"
        return read_object(path, "delete it: the run is then done again", ("exit", "error", "versions"))

    def write_ending(self, name: str, ending: dict[str, Any]) -> None:
        write_json(self.run(name).folder / "ended.json", ending)

    def plan(self) -> dict[str, Any] | None:
        return read_object(self.plan_file, keys=("file_sha256", "settings_sha256"))

    def begin(self, study: str, plan: dict[str, Any]) -> None:
        """Write the study's file as it was given, and its plan."""
        make_folder(self.folder)
        write_text(self.study_file, study)
        write_json(self.plan_file, plan)

    def chosen(self) -> list[dict[str, Any]] | None:
        """The frozen rates: {method, updates, learning_rate, score, at_edge} each."""
        frozen = read_object(self.chosen_file, "delete it: rates are chosen again", ("chosen",))
        return None if frozen is None else frozen["chosen"]

    def write_chosen(self, chosen: list[dict[str, Any]]) -> None:
        write_json(self.chosen_file, {"chosen": chosen})


def few(lines: Sequence[str], most: int = 3) -> list[str]:
    """The first ones, and how many more there are."""
    return [*lines[:most], *([f"and {len(lines) - most:,} more lines"] if len(lines) > most else [])]


def _copy_missing(source: Path, target: Path) -> None:
    """Files of one folder to another that lacks them, but none that is half written."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("*")):
        if not (target / path.name).exists() and not HALF_WRITTEN.fullmatch(path.name):
            with whole_file(target / path.name, synced=False) as partial:
                shutil.copyfile(path, partial)


def _remove_half_written(folder: Path) -> None:
    for path in folder.glob("*.partial"):
        if HALF_WRITTEN.fullmatch(path.name) and path.is_file():
            path.unlink()


def _remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # on a network's disk, where somebody reads in it
        print(f"{folder} could not be removed yet; the run tries again when it is opened", flush=True)


def _figures(path: Path, number: int, row: dict[str, Any]) -> dict[str, Any]:
    """A line of metrics.jsonl: its step, and every figure finite or None."""
    step = row.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 2**53:
        said = f"step is {step!r:.60}, not a whole number from 0" if "step" in row else "no step"
        raise bad_line(path, number, said)
    for key, value in row.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise bad_line(path, number, f"{key} is {value!r:.60}, not a number")
    return {"step": step, **{key: as_figure(value) for key, value in row.items() if key != "step"}}
