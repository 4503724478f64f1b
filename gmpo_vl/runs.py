"""A run's folder and its file formats: the only reader and writer of them (docs/formats.md)."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image

from gmpo_vl.files import append_jsonl, read_jsonl, read_object, sync, to_line, write_json, write_text


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


# What files.write_text and store_image leave of a file of the run's own, where they are killed.
_HALF_WRITTEN = re.compile(
    r"((metrics\.jsonl|config\.yaml|best\.json|(step|validation)_\d+\.jsonl)\.\d+|[0-9a-f]{64}\.\d+_\d+)\.partial"
)


class Run:
    """Paths of a run, and what is written there."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.metrics_file = self.folder / "metrics.jsonl"
        self.checkpoints = self.folder / "checkpoints"

    def create(self) -> Run:
        for part in ("rollouts", "images", "checkpoints"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        return self

    def append_metrics(self, step: int, metrics: dict[str, float]) -> None:
        append_jsonl(self.metrics_file, [{"step": step, **{k: _finite(v) for k, v in metrics.items()}}])

    def read_metrics(self) -> list[dict[str, Any]]:
        return list(read_jsonl(self.metrics_file)) if self.metrics_file.exists() else []

    def rollouts_file(self, step: int, kind: str = "step") -> Path:
        """`kind`: "step" for training rollouts, "validation" for the logged validation samples."""
        return self.folder / "rollouts" / f"{kind}_{step:06d}.jsonl"

    def write_rollouts(self, step: int, records: Iterable[SampleRecord], kind: str = "step") -> None:
        write_text(self.rollouts_file(step, kind), "".join(to_line(asdict(r)) for r in records))

    def read_rollouts(self, step: int, kind: str = "step") -> list[SampleRecord]:
        path = self.rollouts_file(step, kind)
        return [SampleRecord(**row) for row in read_jsonl(path)] if path.exists() else []

    def rollout_steps(self, kind: str = "step") -> list[int]:
        return [n for n, path in _numbered(self.folder / "rollouts", f"{kind}_", ".jsonl") if path.is_file()]

    def add_image(self, pixels_HWC: Any) -> str:
        """Keep a picture (uint8 array, height x width x 3) once; its sha256 is its name."""
        return store_image(self.folder / "images", pixels_HWC)

    def checkpoint_steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first. A copy, a link or a file beside them is none."""
        return [n for n, path in _numbered(self.checkpoints, "step_") if path.is_dir()]

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step_{step:06d}"

    @contextmanager
    def new_checkpoint(self, step: int) -> Iterator[Path]:
        """A folder to write a checkpoint into; complete under its name, or not there at all."""
        partial, replaced = self._unfinished("partial", step), self._unfinished("replaced", step)
        _make_room(partial)
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
            _move_aside(self.checkpoint(step))
        os.rename(folder, self.checkpoint(step))
        sync(self.checkpoints)

    def remove_checkpoint(self, step: int) -> None:
        """Under its name it is there as a whole or not at all."""
        self._remove(self.checkpoint(step), step)

    def _remove(self, folder: Path, step: int) -> None:
        removed = self._unfinished("removed", step)
        _make_room(removed)
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
        for step, replaced in _numbered(self.checkpoints, ".replaced_step_"):
            if step not in self.checkpoint_steps():  # killed between two renames: the new one is complete
                partial = self._unfinished("partial", step)
                self._complete(partial if partial.is_dir() else replaced, step)
        for state in ("partial", "replaced", "removed"):
            for _, path in _numbered(self.checkpoints, f".{state}_step_"):
                shutil.rmtree(path, ignore_errors=True)
        for folder in (self.folder, self.folder / "rollouts", self.folder / "images", self.checkpoints):
            for path in folder.glob("*.partial"):
                if _HALF_WRITTEN.fullmatch(path.name):
                    path.unlink()

    def rewind(self, step: int) -> None:
        """Back to a checkpoint's step: later metrics and rollouts go to `*.discarded.jsonl`, nothing is lost."""
        if self.metrics_file.exists():
            lines = list(read_jsonl(self.metrics_file))
            late = [line for line in lines if line["step"] > step]
            append_jsonl(self.folder / "metrics.discarded.jsonl", late)
            write_text(self.metrics_file, "".join(to_line(line) for line in lines if line["step"] <= step))
        for kind in ("step", "validation"):
            for late_step in self.rollout_steps(kind):
                if late_step > step:
                    path = self.rollouts_file(late_step, kind)
                    append_jsonl(self.folder / "rollouts.discarded.jsonl", read_jsonl(path))
                    path.unlink()
        if step < 0:  # the run begins again: its start is another
            (self.folder / "probe.pt").unlink(missing_ok=True)


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
        return [n for n, path in _numbered(self.chunks, "", ".jsonl") if path.is_file()]

    def read_chunk(self, number: int) -> list[SampleRecord]:
        """A finished chunk's samples. Raises ValueError where the file is not as `write_chunk` left it."""
        path = self.chunks / f"{number:06d}.jsonl"
        if not path.read_bytes().endswith(b"\n"):
            raise ValueError("it is empty, or its last line is cut off")
        try:
            float((self.chunks / f"{number:06d}.seconds").read_text())
            return [SampleRecord(**row) for row in read_jsonl(path)]
        except (TypeError, OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error

    def set_aside(self, number: int) -> Path:
        """Rename a chunk that cannot be used, so that it is answered again; returns its new name."""
        path = self.chunks / f"{number:06d}.jsonl"
        with suppress(FileNotFoundError):  # another shard has done it
            path.replace(path.with_suffix(".damaged"))
        return path.with_suffix(".damaged")

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
                partial = path.with_name(f".partial_{path.name}")
                partial.write_bytes(contents[name])
                os.replace(partial, path)

    def join_chunks(self) -> None:
        """chunks/ to samples.jsonl in the order of their numbers, their seconds to timing.json."""
        seconds = 0.0
        partial = self.samples_file.with_name(f".partial_{self.samples_file.name}")
        with partial.open("wb") as file:
            for number in self.finished_chunks():
                file.write((self.chunks / f"{number:06d}.jsonl").read_bytes())
                seconds += float((self.chunks / f"{number:06d}.seconds").read_text())
        sync(partial)
        os.replace(partial, self.samples_file)
        write_json(self.timing_file, {"seconds": round(seconds, 3)})

    def remove_chunks(self) -> None:
        shutil.rmtree(self.chunks, ignore_errors=True)

    def take_chunks(self, other: EvaluationFolder) -> None:
        """Chunks and pictures of a shard that ran elsewhere."""
        for source, target in ((other.chunks, self.chunks), (other.images, self.images)):
            target.mkdir(parents=True, exist_ok=True)
            for path in sorted(source.glob("*")):
                if not (target / path.name).exists() and not path.name.endswith(".partial"):
                    partial = target / f".partial_{path.name}"
                    shutil.copyfile(path, partial)
                    os.replace(partial, target / path.name)

    def samples(self) -> Iterator[SampleRecord]:
        """Every sample of a finished evaluation. Raises FileNotFoundError where there is none."""
        if not self.samples_file.exists():
            unfinished = " (it is unfinished: run the same command again)" if self.plan_file.exists() else ""
            raise FileNotFoundError(
                f"{self.folder} holds no evaluation: no {self.samples_file.name}{unfinished}"
            )
        return (SampleRecord(**row) for row in read_jsonl(self.samples_file))

    def write_samples(self, records: Iterable[SampleRecord]) -> None:
        write_text(self.samples_file, "".join(to_line(vars(r)) for r in records))

    def results(self) -> dict[str, Any]:
        if not self.results_file.exists():
            raise FileNotFoundError(
                f"{self.folder} holds no finished evaluation: no {self.results_file.name}"
            )
        return json.loads(self.results_file.read_text(encoding="utf-8"))

    def plan(self) -> dict[str, Any] | None:
        return read_object(self.plan_file)


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
        return read_object(self.run(name).folder / "ended.json")

    def write_ending(self, name: str, ending: dict[str, Any]) -> None:
        write_json(self.run(name).folder / "ended.json", ending)

    def plan(self) -> dict[str, Any] | None:
        return read_object(self.plan_file)

    def begin(self, study: str, plan: dict[str, Any]) -> None:
        """Write the study's file as it was given, and its plan."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.study_file, study)
        write_json(self.plan_file, plan)

    def chosen(self) -> list[dict[str, Any]] | None:
        """The frozen rates: {method, updates, learning_rate, score, at_edge} each."""
        frozen = read_object(self.chosen_file)
        return None if frozen is None else frozen["chosen"]

    def write_chosen(self, chosen: list[dict[str, Any]]) -> None:
        write_json(self.chosen_file, {"chosen": chosen})


def _numbered(folder: Path, before: str, after: str = "") -> list[tuple[int, Path]]:
    """(number, path) of what bears a name as we write it: BEFORE, the number in six digits or more, AFTER.

    Everything else is somebody's own: copies, links, backups.
    """
    found = []
    for path in folder.glob("*"):
        digits = path.name.removeprefix(before).removesuffix(after)
        ours = digits.isdecimal() and path.name == f"{before}{int(digits):06d}{after}"
        if ours and not path.is_symlink():
            found.append((int(digits), path))
    return sorted(found)


def _make_room(path: Path) -> None:
    """Nothing stands under this name afterwards."""
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        _move_aside(path)


def _move_aside(path: Path) -> None:
    """Another name for what stands in a checkpoint's place and is none: a file or a link, somebody's."""
    names = (path.with_name(f"{path.name}.moved_{k}") for k in count(1))
    aside = next(name for name in names if not os.path.lexists(name))
    os.rename(path, aside)
    print(f"{path} is no checkpoint: it is called {aside.name} now", flush=True)


def store_image(folder: Path, pixels_HWC: Any) -> str:
    """Write a uint8 picture (height, width, 3) as FOLDER/SHA256.webp unless it is there; the hash is of its pixels."""
    import numpy as np

    pixels = np.ascontiguousarray(pixels_HWC)
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    path = folder / f"{digest}.webp"
    if not path.exists():
        # Shards and threads may store the same picture at once.
        partial = path.with_suffix(f".{os.getpid()}_{threading.get_ident()}.partial")
        Image.fromarray(pixels).save(partial, "WEBP", quality=90, method=2)
        os.replace(partial, path)
    return digest


def _finite(value: float) -> float | None:
    """JSON has no NaN: a metric that was not finite is null."""
    value = float(value)
    return value if math.isfinite(value) else None
