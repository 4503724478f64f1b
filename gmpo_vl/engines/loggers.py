"""Where its figures go beside its own files (`trainer.logger`): console, TensorBoard, Weights & Biases."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gmpo_vl.config import Config, ConfigError
from gmpo_vl.config.schema import all_keys, value_of
from gmpo_vl.figures import decimal
from gmpo_vl.runs import Run
from gmpo_vl.samples import SampleRecord
from gmpo_vl.storage.files import naming, write_text

SAMPLES = 8


class Logger:
    """What a run tells a logger, which by default makes nothing of it."""

    def metrics(self, step: int, values: dict[str, float]) -> None: ...
    def samples(self, step: int, records: Sequence[SampleRecord], title: str) -> None: ...
    def close(self) -> None: ...


def open_loggers(config: Config, run: Run, start_step: int, total_steps: int) -> list[Logger]:
    """The configured loggers, going on after `start_step`. `file` (metrics.jsonl) is always written."""
    known: dict[str, Callable[[], Logger]] = {
        "console": lambda: Console(total_steps),
        "tensorboard": lambda: TensorBoard(run, start_step),
        "wandb": lambda: WandB(config, run),
    }
    return [open_one() for name, open_one in known.items() if name in config.trainer.logger]


def check_loggers(config: Config) -> list[str]:
    """Raise ConfigError for a logger whose package is not there, before anything is loaded.

    Returns what may be wrong with its account, as far as that can be known here.
    """
    if "tensorboard" in config.trainer.logger:
        _tensorboard_writer()
    if "wandb" not in config.trainer.logger:
        return []
    settings = _wandb().setup().settings  # of the environment and of wandb's own files
    named = settings.api_key or settings.identity_token_file
    if settings.mode in ("offline", "disabled") or named or _in_netrc(settings.base_url):
        return []
    said = f"trainer.logger: wandb has no key for {settings.base_url}; `wandb login` or WANDB_API_KEY give it"
    return [f"{said}, WANDB_MODE=offline needs none"]


def _tensorboard_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        said = "trainer.logger: tensorboard cannot be imported; pip install tensorboard"
        raise ConfigError(f"{said} ({error})") from error
    return SummaryWriter


def _wandb() -> Any:
    try:
        import wandb  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        said = 'trainer.logger: wandb cannot be imported; pip install "gmpo-vl[wandb]"'
        raise ConfigError(f"{said} ({error})") from error
    return wandb


def _in_netrc(host: str) -> bool:
    """Does a line of .netrc, where `wandb login` keeps its key, belong to the host?"""
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        if path.is_file():
            try:
                return netrc(str(path)).authenticators(urlsplit(host).hostname or host) is not None
            except (OSError, NetrcParseError):  # wandb finds no key in it either
                return False
    return False


class Console(Logger):
    """One line per step that a person can read. A terminal has no room for samples."""

    def __init__(self, total_steps: int):
        self._total = total_steps
        self._seconds: list[float] = []

    def metrics(self, step: int, values: dict[str, float]) -> None:
        parts = []
        if "time/step" in values:
            self._seconds.append(values["time/step"])
            recent = self._seconds[-20:]
            pace = sum(recent) / len(recent)
            parts = [
                f"step {step:>{len(str(self._total))}}/{self._total}",
                f"reward {_shown(values, 'reward/overall', 3)}",
                *([f"right {decimal(values['reward/accuracy'])}"] if "reward/accuracy" in values else []),
                *([f"unscored {share:.0%}"] if (share := values.get("reward/unscored")) else []),
                f"length {values['response_length/mean']:.0f}",
                f"cut {values['rollout/truncated']:.0%}",
                f"flat {values['group/zero_variance']:.0%}",
                f"ratio {_shown(values, 'actor/ratio_min')}-{_shown(values, 'actor/ratio_max')}",
                f"grad {_shown(values, 'actor/grad_norm')}",
                f"entropy {_shown(values, 'actor/entropy')}",
                f"{pace:.1f} s/step",
                f"{clock(pace * (self._total - step))} left",
            ]
        validation = values.get("val/accuracy", values.get("val/overall"))  # games that do not say `won`
        later = [f"validation {decimal(validation)}"] if validation is not None else []
        if "look/accuracy_gap" in values:
            # Its page wants what a bare GPU machine may lack.
            from gmpo_vl.report.look import half_width

            half = half_width(values)
            assert half is not None  # the gap comes with its error
            later.append(f"look gap {decimal(values['look/accuracy_gap'])} ± {decimal(half)}")
        if later:
            parts = [*(parts or [f"step {step}"]), *later]
        if parts:
            print("  ".join(parts), flush=True)


def _shown(values: dict[str, float], key: str, places: int = 2) -> str:
    return decimal(values[key], places) if key in values else "?"


def clock(seconds: float) -> str:
    """m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class TensorBoard(Logger):
    """Event files under RUN/tensorboard. What a killed run wrote after its checkpoint is purged on resume."""

    def __init__(self, run: Run, start_step: int):
        self._run, self._folder = run, run.folder / "tensorboard"
        with naming(self._folder):
            self._writer = _tensorboard_writer()(str(self._folder), purge_step=start_step + 1)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        with naming(self._folder):
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def samples(self, step: int, records: Sequence[SampleRecord], title: str) -> None:
        import numpy as np

        for i, record in enumerate(records[:SAMPLES]):
            verdict = "right" if record.correct else f"wrong ({record.outcome})"
            text = f"**{record.prompt}**\n\n{record.response}\n\ngold {record.gold}: {verdict}"
            pictures = [np.asarray(_open_image(self._run, digest)) for digest in record.images]
            with naming(self._folder):
                self._writer.add_text(f"{title}/{i}", text, step)
                for j, picture in enumerate(pictures):
                    self._writer.add_image(f"{title}/{i}/{j}", picture, step, dataformats="HWC")

    def close(self) -> None:
        with naming(self._folder):
            self._writer.close()


class WandB(Logger):
    """One wandb run for one run folder, which keeps its id: a resumed run goes on in the same curves."""

    def __init__(self, config: Config, run: Run):
        wandb = _wandb()
        self._run, self._wandb = run, wandb
        id_file = run.folder / "wandb_id.txt"
        if not id_file.exists():
            write_text(id_file, uuid.uuid4().hex[:8])
        try:
            self._session: Any = wandb.init(
                project=config.trainer.project_name,
                name=config.trainer.experiment_name,
                id=id_file.read_text(encoding="utf-8"),
                resume="allow",
                dir=str(run.folder),
                config={key: value_of(config, key) for key in all_keys()},
            )
        except wandb.Error as error:  # no key, no network
            said = f"trainer.logger: wandb does not start: {error}; WANDB_MODE=offline needs no network"
            raise ConfigError(said) from error
        # Our own step, not wandb's, which only ever goes up: a resumed run writes steps again.
        self._session.define_metric("*", step_metric="step")

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self._session.log({**values, "step": step})

    def samples(self, step: int, records: Sequence[SampleRecord], title: str) -> None:
        columns = ["id", "pictures", "problem", "response", "gold", "correct", "outcome"]
        table = self._wandb.Table(columns=columns)
        for r in records[:SAMPLES]:
            pictures = [self._wandb.Image(_open_image(self._run, digest)) for digest in r.images]
            table.add_data(r.id, pictures, r.prompt, r.response, r.gold, r.correct, r.outcome)
        self._session.log({title: table, "step": step})

    def close(self) -> None:
        self._session.finish()


def _open_image(run: Run, digest: str):
    from PIL import Image

    return Image.open(Path(run.folder) / "images" / f"{digest}.webp")
