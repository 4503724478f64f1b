"""The figures at the top of a run's page, from what is in its folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from gmpo_vl.figures import percent
from gmpo_vl.policy.objectives import OBJECTIVES, log_clip_limits, resolve_settings
from gmpo_vl.report.charts import show
from gmpo_vl.report.curves import by_kind, points, validation_key
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import as_figure
from gmpo_vl.storage.files import numbered, read_object


@dataclass(frozen=True)
class Comparison:
    """Before and after, as shares of right answers. interval: 95%, of the paired difference."""

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
    """summary.json, whose keys docs/formats.md has. what: is counted; unit: over which it is paired."""

    main: Comparison
    greedy: Comparison | None
    families: list[Comparison]
    controls: list[tuple[str, float]]
    metric: str
    seconds: float | None
    limits: list[str]
    what: str = "right answers"
    unit: str = "question"


@dataclass(frozen=True)
class Settings:
    """config.yaml: dotted keys and values; those that a person wrote, by section, and all of them as text."""

    values: dict[str, Any] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    text: str = ""

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)


def read_settings(folder: Path) -> Settings:
    """As the run saved them; empty where there is no config.yaml. Nothing is checked.

    Raises ValueError for a file that is no YAML.
    """
    path = folder / "config.yaml"
    return _read_settings(path) if path.is_file() else Settings()


def changes_on_the_way(folder: Path) -> list[tuple[int, list[tuple[str, Any, Any]]]]:
    """(step, [(dotted key, value until then, value afterwards)]) where a run went on with other settings.

    Former settings that cannot be read, which no run refuses, have no keys.
    """
    steps = numbered(folder, "config.until_step_", ".yaml")
    found = []
    for (step, path), after in zip(steps, [*(path for _, path in steps[1:]), folder / "config.yaml"]):
        try:
            before, then = _read_settings(path).values, _read_settings(after).values
        except ValueError:
            found.append((step, []))
            continue
        keys = [key for key in {**before, **then} if before.get(key) != then.get(key)]
        found.append((step, [(key, before.get(key), then.get(key)) for key in keys]))
    return found


def _read_settings(path: Path) -> Settings:
    try:
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException, RecursionError) as error:
        raise ValueError(f"{path} is not a run's config: {error}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path} is not a run's config: it holds no sections")
    written = tree.pop("written", None)
    values = _leaves(tree)
    named = sorted(map(str, written)) if isinstance(written, list) else sorted(values)
    return Settings(values, named, OmegaConf.to_yaml(OmegaConf.create(tree)))


_CONTROLS = (
    ("wrong_image", "another problem's picture"),
    ("wrong_game", "another game's picture"),
    ("blank_image", "a blank picture"),
    ("random_moves", "no model: moves at random"),
)


def read_summary(folder: Path) -> Summary | None:
    """None where the run has no summary.json. ValueError where one is there that cannot be read."""
    path = folder / "summary.json"
    raw = read_object(path)
    if raw is None:
        return None
    main = _comparison("All", raw, path)
    greedy = None
    if "greedy_before" in raw and "greedy_after" in raw:
        of_greedy = {key.removeprefix("greedy_"): raw[key] for key in raw if key.startswith("greedy_")}
        greedy = _comparison("Greedy", of_greedy, path)
    families = [
        _comparison(str(name), of_family, path)
        for name, of_family in _of_kind(raw, "families", path, dict, {}).items()
    ]
    controls = [("the right picture", main.after)]
    controls += [(name, _number(raw, key, path)) for key, name in _CONTROLS if key in raw]
    seconds = None if raw.get("seconds") is None else _number(raw, "seconds", path)
    limits = [str(limit) for limit in _of_kind(raw, "limits", path, list, [])]
    said = {key: str(raw[key]) for key in ("what", "unit") if key in raw}
    return Summary(main, greedy, families, controls, str(raw.get("metric", "")), seconds, limits, **said)


def _comparison(name: str, raw: Any, path: Path) -> Comparison:
    """Of {before, after, diff_ci95, questions}, the last two where they are known."""
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: {name} is {raw!r:.60}, but must be an object with before and after")
    questions = None if raw.get("questions") is None else int(_number(raw, "questions", path))
    before, after = (_number(raw, key, path) for key in ("before", "after"))
    return Comparison(name, before, after, _interval(raw.get("diff_ci95"), path), questions)


def read_evaluations(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """(name, what results.json holds) for every eval/NAME, those from before the training first."""
    found = {}
    for path in sorted(folder.glob("eval/*/results.json")):
        # The time is kept apart by `gmpo-vl eval`: results are the same to the byte.
        timing = path.with_name("timing.json")
        results = {"seconds": None, **EvaluationFolder(path.parent).results()}
        figures = ["pass@1", "questions", "n", "truncated", "mean_length"]
        if "imported" in (results.get("settings") or {}) and "mean_length" not in results:
            figures.remove("mean_length")
        if "episode" not in results:  # games have no answers that could be missing
            figures.append("no_answer")
        for key in [*figures, *(["seconds"] if results["seconds"] is not None else [])]:
            _number(results, key, path)
        if _interval(results.get("ci95"), path, "ci95") is None:
            raise ValueError(f"{path}: ci95 is missing")
        if timing.is_file():
            results["seconds"] = _number(read_object(timing) or {}, "seconds", timing)
        found[path.parent.name] = results
    return sorted(found.items(), key=lambda item: (not item[0].startswith("before"), item[0]))


def facts(metrics: Sequence[dict[str, Any]], settings: Settings) -> list[tuple[str, str]]:
    """(what, how much) about the run, as far as it is known."""
    steps = [row for row in metrics if row.get("time/step") is not None]
    found = []
    if steps:
        found.append(("steps", f"{steps[-1]['step']:,}"))
        sizes = [settings.get(key) for key in ("data.rollout_batch_size", "worker.rollout.n")]
        if all(isinstance(size, int) for size in sizes):
            if _of_games(steps):
                found += _played(steps, sizes[1])
            else:
                found.append(("rollouts", f"{steps[-1]['step'] * math.prod(sizes):,}"))
        found.append(("training time", clock(sum(row["time/step"] for row in steps))))
    return found


def _of_games(metrics: Sequence[dict[str, Any]]) -> bool:
    return any(row.get("episode/turns") is not None for row in metrics)


def _played(steps: Sequence[dict[str, Any]], n: int) -> list[tuple[str, str]]:
    """Episodes and turns of all games that the steps played, n of each row."""
    known = [
        row for row in steps if None not in (row.get("episode/turns"), row.get("filter/generated_prompts"))
    ]
    episodes = [n * row["filter/generated_prompts"] for row in known]
    turns = sum(count * row["episode/turns"] for count, row in zip(episodes, known))
    return [("episodes", f"{sum(episodes):,.0f}"), ("turns", f"{turns:,.0f}")]


def progress(metrics: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(what, figure, remark): accuracy as the run itself measured it, for runs without a summary. The whole
    score of a reward without the part `accuracy`, in its own unit.
    """
    return [line for shares, rows in by_kind(metrics) for line in _progress(shares, rows)]


def _progress(shares: bool, metrics: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Of rows of one kind."""
    found = []
    name, unit = ("accuracy", "%") if shares else ("score", "")
    validation = points(metrics, validation_key(metrics))
    if validation:
        best = max(validation, key=lambda p: p[1])
        change = _change(validation[0][1], validation[-1][1], unit)
        found.append((f"validation {name}", change, f"best {_figure(best[1], unit)} at step {best[0]:.0f}"))
    training = points(metrics, "reward/accuracy" if shares else "reward/overall")
    if training:
        few = max(1, min(5, len(training) // 2))
        first, last = (sum(y for _, y in part) / few for part in (training[:few], training[-few:]))
        remark = f"mean of the first and last {few} steps" if few > 1 else "first and last step"
        what = "episodes" if _of_games(metrics) else "rollouts"
        found.append((f"{name} of training {what}", _change(first, last, unit), remark))
    return found


def _change(first: float, last: float, unit: str) -> str:
    return f"{_figure(first, unit)} → {_figure(last, unit)}"


def _figure(value: float, unit: str) -> str:
    return percent(value) if unit else show(value, unit)


def ratio_limits(settings: Settings) -> tuple[float, float] | None:
    """Where the run's objective clips a token's ratio; None where unknown, or where it clips no tokens."""
    loss_type = settings.get("worker.actor.loss_type")
    if (
        not isinstance(loss_type, str)
        or loss_type not in OBJECTIVES
        or OBJECTIVES[loss_type].clips != "token"
    ):
        return None
    own = {key: settings.get(f"worker.actor.{key}") for key in OBJECTIVES[loss_type].defaults}
    written = {key: value for key, value in own.items() if value is not None}
    if any(isinstance(value, float | int) and as_figure(value) is None for value in written.values()):
        return None
    try:
        low, high = (math.exp(limit) for limit in log_clip_limits(resolve_settings(loss_type, written)))
    except (TypeError, ValueError, OverflowError):  # edited since: no run had these
        return None
    return low, high


def clock(seconds: float) -> str:
    """3:05 min, or 10:50 h from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02} h" if minutes >= 60 else f"{minutes}:{rest:02} min"


def _number(raw: dict[str, Any], key: str, path: Path) -> float:
    value = as_figure(raw.get(key))
    if value is None:
        raise ValueError(f"{path}: {key} is {raw.get(key)!r:.60}, but must be a number")
    return value


def _of_kind(raw: dict[str, Any], key: str, path: Path, kind: type, default: Any) -> Any:
    value = raw.get(key, default)
    if not isinstance(value, kind):
        raise ValueError(f"{path}: {key} is {value!r:.60}, but must be a {kind.__name__}")
    return value


def _interval(value: Any, path: Path, key: str = "diff_ci95") -> tuple[float, float] | None:
    if value is None:
        return None
    low, high = map(as_figure, value) if isinstance(value, list) and len(value) == 2 else (None, None)
    if low is None or high is None:
        raise ValueError(f"{path}: {key} is {value!r:.60}, but must be [low, high]")
    return low, high


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    return {
        key: v
        for name, sub in tree.items()
        for key, v in _leaves(sub, f"{prefix}.{name}" if prefix else name).items()
    }
