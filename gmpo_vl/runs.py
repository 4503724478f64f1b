"""A run's folder, an evaluation's and a study's, and the formats of their files (docs/formats.md)."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from PIL import Image

from gmpo_vl.files import (
    HALF_WRITTEN,
    append_bytes,
    append_jsonl,
    bad_line,
    make_room,
    move_aside,
    numbered,
    numbered_jsonl,
    read_object,
    sync,
    to_line,
    whole_file,
    write_json,
    write_text,
)


@dataclass(frozen=True)
class SampleRecord:
    """One sampled response, in training and in evaluation alike.

    id: the example's. group: the group's key. k: which of the group's samples. images: sha256 of each picture as the
    model saw it (images/SHA256.webp). reward: every part of the score, `overall` among them. length: tokens of the
    response. meta: the row's other columns, such as `family` or `level`.
    """

    id: str
    group: str
    k: int
    prompt: str
    images: list[str]
    response: str
    finished: bool
    gold: str
    extracted: str | None
    gold_type: str
    correct: bool
    outcome: str
    reward: dict[str, float]
    seed: int
    length: int
    meta: dict[str, Any] = field(default_factory=dict)


class Run:
    """Paths of a run, and what is written there."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.metrics_file = self.folder / "metrics.jsonl"
        self.probe_file = self.folder / "probe.pt"
        self.checkpoints = self.folder / "checkpoints"

    def create(self) -> Run:
        for part in ("rollouts", "images", "checkpoints"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        return self

    def append_metrics(self, step: int, metrics: dict[str, float]) -> None:
        append_jsonl(
            self.metrics_file, [{"step": step, **{k: as_figure(float(v)) for k, v in metrics.items()}}]
        )

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines, whose figures are finite numbers or None. Raises ValueError naming the line for what is no line of ours."""
        if not self.metrics_file.exists():
            return []
        return [_figures(self.metrics_file, *line) for line in numbered_jsonl(self.metrics_file)]

    def missing_steps(self, last: int | None = None) -> str:
        """Steps up to `last` that metrics.jsonl has no line of, as "3, 5-9"; empty where none is missing.

        A run's first step is the first that left a line or rollouts: it may go on from another's checkpoint. Without `last`,
        as of a run that is going on: up to the last line, or to the rollouts before the last.
        """
        lines, rollouts = {line["step"] for line in self.read_metrics()}, self.rollout_steps()
        begun = (
            [*lines, *rollouts]
            if last is None
            else [step for step in (*lines, *rollouts, last) if step <= last]
        )
        first = min((step for step in begun if step > 0), default=0)
        end = last if last is not None else max([*lines, *rollouts[:-1]], default=0)
        found = sorted({first - 1, *(step for step in lines if first <= step <= end), end + 1})
        holes = [(a + 1, b - 1) for a, b in pairwise(found) if b - a > 1]
        return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in holes) if first > 0 else ""

    def rollouts_file(self, step: int, kind: str = "step") -> Path:
        """`kind`: "step" for training rollouts, "validation" for the logged validation samples."""
        return self.folder / "rollouts" / f"{kind}_{step:06d}.jsonl"

    def write_rollouts(self, step: int, records: Iterable[SampleRecord], kind: str = "step") -> None:
        write_text(self.rollouts_file(step, kind), "".join(to_line(asdict(r)) for r in records))

    def read_rollouts(self, step: int, kind: str = "step") -> list[SampleRecord]:
        path = self.rollouts_file(step, kind)
        return list(read_samples(path)) if path.exists() else []

    def rollout_steps(self, kind: str = "step") -> list[int]:
        return [n for n, path in numbered(self.folder / "rollouts", f"{kind}_", ".jsonl") if path.is_file()]

    def add_image(self, pixels_HWC: Any) -> str:
        """Keep a picture (uint8 array, height x width x 3) once; its sha256 is its name."""
        return store_image(self.folder / "images", pixels_HWC)

    def checkpoint_steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first. A copy, a link or a file beside them is none."""
        return [n for n, path in numbered(self.checkpoints, "step_") if path.is_dir()]

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step_{step:06d}"

    @contextmanager
    def new_checkpoint(self, step: int) -> Iterator[Path]:
        """A folder to write a checkpoint into; complete under its name, or not there at all."""
        partial, replaced = self._unfinished("partial", step), self._unfinished("replaced", step)
        make_room(partial)
        partial.mkdir(parents=True)
        yield partial
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
        """Under its name it is there as a whole or not at all."""
        self._remove(self.checkpoint(step), step)

    def _remove(self, folder: Path, step: int) -> None:
        removed = self._unfinished("removed", step)
        make_room(removed)
        os.rename(folder, removed)
        shutil.rmtree(removed, ignore_errors=True)
        if removed.exists():  # on a network's disk, where somebody reads in it
            print(f"{removed} could not be removed yet; the run tries again when it is opened", flush=True)

    def _unfinished(self, state: str, step: int) -> Path:
        return self.checkpoints / f".{state}_step_{step:06d}"

    def clear_up(self) -> None:
        """Put right what a killed process left: a checkpoint that was being written, replaced or removed, files half written.

        For the process that holds the folder's lock.
        """
        for step, replaced in numbered(self.checkpoints, ".replaced_step_"):
            if step not in self.checkpoint_steps():  # killed between two renames: the new one is complete
                partial = self._unfinished("partial", step)
                self._complete(partial if partial.is_dir() else replaced, step)
        for state in ("partial", "replaced", "removed"):
            for _, path in numbered(self.checkpoints, f".{state}_step_"):
                shutil.rmtree(path, ignore_errors=True)
        for folder in (self.folder, self.folder / "rollouts", self.folder / "images", self.checkpoints):
            for path in folder.glob("*.partial"):
                if HALF_WRITTEN.fullmatch(path.name):
                    path.unlink()

    def rewind(self, step: int) -> None:
        """Back to a checkpoint's step: later metrics and rollouts go to `*.discarded.jsonl`, nothing is lost."""
        if self.metrics_file.exists():
            lines = self.read_metrics()
            late = [line for line in lines if line["step"] > step]
            append_jsonl(self.folder / "metrics.discarded.jsonl", late)
            write_text(self.metrics_file, "".join(to_line(line) for line in lines if line["step"] <= step))
        for kind in ("step", "validation"):
            for late_step in self.rollout_steps(kind):
                if late_step > step:
                    path = self.rollouts_file(late_step, kind)
                    append_bytes(self.folder / "rollouts.discarded.jsonl", path.read_bytes())
                    path.unlink()
        if step < 0:  # the run begins again: its start is another
            self.probe_file.unlink(missing_ok=True)


class EvaluationFolder:
    """eval/NAME: plan.json and chunks/ while an evaluation runs; samples.jsonl, results.json, timing.json when it is done.

    A chunk's file appears under its name when it is complete, so whoever is killed leaves whole chunks or none, and shards
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

    @property
    def finished(self) -> bool:
        return self.results_file.exists()

    def finished_chunks(self) -> list[int]:
        return [n for n, path in numbered(self.chunks, "", ".jsonl") if path.is_file()]

    def write_chunk(self, number: int, records: Iterable[SampleRecord], seconds: float) -> None:
        """`seconds` go to a file of their own: samples and results are the same to the byte however often a run was killed."""
        self.chunks.mkdir(parents=True, exist_ok=True)
        write_text(self.chunks / f"{number:06d}.seconds", f"{seconds:.3f}\n")
        write_text(self.chunks / f"{number:06d}.jsonl", "".join(to_line(asdict(r)) for r in records))

    def contents(self) -> dict[str, bytes]:
        """Every file of the folder by its path in it: how a chunk that was answered elsewhere travels."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in sorted(files)}

    def receive(self, contents: dict[str, bytes]) -> None:
        """Write another folder's `contents` here; a chunk appears when its pictures are there."""
        for name in sorted(contents, key=lambda name: name.endswith(".jsonl")):
            path = self.folder / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(path, synced=False) as partial:
                    partial.write_bytes(contents[name])

    def join_chunks(self, count: int) -> None:
        """The `count` chunks to samples.jsonl in the order of their numbers, their seconds to timing.json. Raises
        FileNotFoundError where one is gone: another process has finished the evaluation meanwhile."""
        seconds = 0.0
        with whole_file(self.samples_file) as partial, partial.open("wb") as file:
            for number in range(count):
                file.write((self.chunks / f"{number:06d}.jsonl").read_bytes())
                seconds += float((self.chunks / f"{number:06d}.seconds").read_text())
        write_json(self.timing_file, {"seconds": round(seconds, 3)})

    def remove_chunks(self) -> None:
        shutil.rmtree(self.chunks, ignore_errors=True)

    def take_chunks(self, other: EvaluationFolder) -> None:
        """Chunks and pictures of a shard that ran elsewhere."""
        for source, target in ((other.chunks, self.chunks), (other.images, self.images)):
            target.mkdir(parents=True, exist_ok=True)
            for path in sorted(source.glob("*")):
                if not (target / path.name).exists() and not HALF_WRITTEN.fullmatch(path.name):
                    with whole_file(target / path.name, synced=False) as partial:
                        shutil.copyfile(path, partial)

    def samples(self) -> Iterator[SampleRecord]:
        """Every sample of a finished evaluation. Raises FileNotFoundError where there is none."""
        if not self.samples_file.exists():
            unfinished = " (it is unfinished: run the same command again)" if self.plan_file.exists() else ""
            raise FileNotFoundError(
                f"{self.folder} holds no evaluation: no {self.samples_file.name}{unfinished}"
            )
        return read_samples(self.samples_file)

    def write_samples(self, records: Iterable[SampleRecord]) -> None:
        write_text(self.samples_file, "".join(to_line(vars(r)) for r in records))

    def results(self) -> dict[str, Any]:
        if not self.results_file.exists():
            raise FileNotFoundError(
                f"{self.folder} holds no finished evaluation: no {self.results_file.name}"
            )
        keys = ("pass@1",)
        advice = "put back what it was, or delete the folder and evaluate again"
        return read_object(self.results_file, advice, keys) or {}

    def plan(self) -> dict[str, Any] | None:
        keys = ("name", "protocol", "questions", "data", "model", "backend", "versions")
        return read_object(self.plan_file, "put back what it was, or delete the whole folder", keys)


class StudyFolder:
    """A study's folder: plan.json before anything runs, runs/PHASE/..., chosen.json between the phases, results.json at the end.

    A run's folder is `gmpo-vl train`'s, with log.txt (what the command and the run printed) and ended.json beside.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.study_file = self.folder / "study.yaml"
        self.plan_file = self.folder / "plan.json"
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
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.study_file, study)
        write_json(self.plan_file, plan)

    def chosen(self) -> list[dict[str, Any]] | None:
        """The frozen rates: {method, updates, learning_rate, score, at_edge} each."""
        frozen = read_object(self.chosen_file, "delete it: rates are chosen again", ("chosen",))
        return None if frozen is None else frozen["chosen"]

    def write_chosen(self, chosen: list[dict[str, Any]]) -> None:
        write_json(self.chosen_file, {"chosen": chosen})


def read_samples(path: Path) -> Iterator[SampleRecord]:
    """A file's records in order. Raises ValueError naming the line for what is none, half a last line included: these files are
    written whole."""
    for number, row in numbered_jsonl(path, appended=False):
        problem = _no_record(row)
        if problem is not None:
            raise bad_line(path, number, f"not a sample: {problem}")
        yield SampleRecord(**row)


# {field of a record: what its value is}
_KINDS = {
    name: get_origin(hint) if get_origin(hint) in (list, dict) else hint
    for name, hint in get_type_hints(SampleRecord).items()
}


def _no_record(row: dict[str, Any]) -> str | None:
    """Why these are not a SampleRecord's fields; None where they are."""
    for name, kind in _KINDS.items():
        if name not in row and name != "meta":
            return f"no {name!r}"
        if name in row and not isinstance(row[name], kind):  # type: ignore[arg-type]
            return f"{name} is {row[name]!r:.60}"
    unknown = row.keys() - _KINDS.keys()
    if unknown:
        return f"unknown {min(unknown)!r}"
    if not all(isinstance(name, str) for name in row["images"]):
        return f"images are {row['images']!r:.60}"
    figures = {part: as_figure(value) for part, value in row["reward"].items()}
    return next(
        (f"reward {part} is {row['reward'][part]!r:.60}" for part in figures if figures[part] is None), None
    )


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


def store_image(folder: Path, pixels_HWC: Any) -> str:
    """Write a uint8 picture (height, width, 3) as FOLDER/SHA256.webp unless it is there; the hash is of its pixels."""
    import numpy as np

    pixels = np.ascontiguousarray(pixels_HWC)
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    path = folder / f"{digest}.webp"
    if not path.exists():
        with whole_file(path, synced=False) as partial:
            Image.fromarray(pixels).save(partial, "WEBP", quality=90, method=2)
    return digest


def as_figure(value: Any) -> float | None:
    """A finite number; None for everything else: JSON has no NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond every float
        return None
