"""The figures at the top of a run's page, from what is in its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gmpo_vl.policy.settings import OBJECTIVES, log_clip_limits, resolve_settings
from gmpo_vl.report.curves import points


@dataclass(frozen=True)
class Comparison:
    """Before and after, as shares of right answers. `interval`: 95%, of the paired difference; None where not measured."""

    name: str
    before: float
    after: float
    interval: tuple[float, float] | None = None
    questions: int | None = None

    @property
    def difference(self) -> float:
        return self.after - self.before


@dataclass(frozen=True)
class Summary:
    """summary.json: {before, after, diff, diff_ci95: [low, high], ...}; docs/formats.md has the keys that may follow."""

    main: Comparison
    greedy: Comparison | None
    families: list[Comparison]
    controls: list[tuple[str, float]]
    metric: str
    seconds: float | None
    limits: list[str]


@dataclass(frozen=True)
class Settings:
    """config.yaml: dotted keys and values; those that a person wrote, by section, and all of them as text."""

    values: dict[str, Any] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    text: str = ""

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)


def read_settings(folder: Path) -> Settings:
    """As the run saved them; empty where there is no config.yaml. Nothing is checked: a page can be made anywhere."""
    path = folder / "config.yaml"
    if not path.is_file():
        return Settings()
    tree = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    if not isinstance(tree, dict):
        raise ValueError(f"{path} is not a run's config: it holds no sections")
    written = tree.pop("written", None)
    values = _leaves(tree)
    return Settings(values, sorted(written or values), OmegaConf.to_yaml(OmegaConf.create(tree)))


def read_summary(folder: Path) -> Summary | None:
    """None where the run has no summary.json. ValueError where one is there that cannot be read."""
    path = folder / "summary.json"
    if not path.is_file():
        return None
    raw = _read_json(path)
    for key in ("before", "after"):
        if not isinstance(raw.get(key), Real):
            raise ValueError(
                f"{path}: {key} is {raw.get(key)!r}, but must be a number, the share of right answers"
            )
    greedy = None
    if "greedy_before" in raw and "greedy_after" in raw:
        greedy = Comparison(
            "Greedy", raw["greedy_before"], raw["greedy_after"], _interval(raw.get("greedy_diff_ci95"), path)
        )
    families = [
        Comparison(name, f["before"], f["after"], _interval(f.get("diff_ci95"), path), f.get("questions"))
        for name, f in raw.get("families", {}).items()
    ]
    controls = [("the right picture", raw["after"])]
    controls += [
        (f"{name} picture", raw[key])
        for key, name in (("wrong_image", "another problem's"), ("blank_image", "a blank"))
        if key in raw
    ]
    main = Comparison(
        "All", raw["before"], raw["after"], _interval(raw.get("diff_ci95"), path), raw.get("questions")
    )
    return Summary(
        main, greedy, families, controls, raw.get("metric", ""), raw.get("seconds"), raw.get("limits", [])
    )


def read_evaluations(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """(name, what results.json holds) for every eval/NAME, those from before the training first."""
    found = {}
    for path in folder.glob("eval/*/results.json"):
        timing = path.with_name(
            "timing.json"
        )  # kept apart by `gmpo-vl eval`: results are the same to the byte
        found[path.parent.name] = {"seconds": None, **_read_json(path)} | (
            _read_json(timing) if timing.is_file() else {}
        )
    return sorted(found.items(), key=lambda item: (not item[0].startswith("before"), item[0]))


def facts(metrics: Sequence[dict[str, Any]], settings: Settings) -> list[tuple[str, str]]:
    """(what, how much) about the run, as far as it is known."""
    steps = [row for row in metrics if row.get("time/step") is not None]
    found = []
    if steps:
        found.append(("steps", f"{steps[-1]['step']:,}"))
        per_step = settings.get("data.rollout_batch_size", 0) * settings.get("worker.rollout.n", 0)
        if per_step:
            found.append(("rollouts", f"{steps[-1]['step'] * per_step:,}"))
        found.append(("training time", clock(sum(row["time/step"] for row in steps))))
    return found


def progress(metrics: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(what, figure, remark): accuracy as the run itself measured it, for runs without a summary."""
    found = []
    validation = points(metrics, "val/accuracy")
    if validation:
        best = max(validation, key=lambda p: p[1])
        change = f"{100 * validation[0][1]:.1f}% → {100 * validation[-1][1]:.1f}%"
        found.append(("validation accuracy", change, f"best {100 * best[1]:.1f}% at step {best[0]:.0f}"))
    training = points(metrics, "reward/accuracy")
    if training:
        few = max(1, min(5, len(training) // 2))
        first, last = (sum(y for _, y in part) / few for part in (training[:few], training[-few:]))
        remark = f"mean of the first and last {few} steps" if few > 1 else "first and last step"
        found.append(("accuracy of training rollouts", f"{100 * first:.1f}% → {100 * last:.1f}%", remark))
    return found


def ratio_limits(settings: Settings) -> tuple[float, float] | None:
    """Where the run's objective clips a token's ratio; None where it is not known, or where it looks at no single token."""
    loss_type = settings.get("worker.actor.loss_type")
    if loss_type not in OBJECTIVES or OBJECTIVES[loss_type].clips != "token":
        return None
    own = {key: settings.get(f"worker.actor.{key}") for key in OBJECTIVES[loss_type].defaults}
    limits = log_clip_limits(
        resolve_settings(loss_type, {key: value for key, value in own.items() if value is not None})
    )
    low, high = (math.exp(limit) for limit in limits)
    return low, high


def clock(seconds: float) -> str:
    """3:05 min, or 10:50 h from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02} h" if minutes >= 60 else f"{minutes}:{rest:02} min"


def _interval(value: Any, path: Path) -> tuple[float, float] | None:
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(v, Real) for v in value)):
        raise ValueError(f"{path}: diff_ci95 is {value!r}, but must be [low, high]")
    return value[0], value[1]


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    return {
        key: v
        for name, sub in tree.items()
        for key, v in _leaves(sub, f"{prefix}.{name}" if prefix else name).items()
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no object")
    return value
