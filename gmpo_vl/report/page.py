"""A run's folder as one page that carries everything with it. Only our script runs."""

from __future__ import annotations

import base64
import hashlib
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gmpo_vl import __version__
from gmpo_vl.figures import percent
from gmpo_vl.report.cards import before_and_after, training_cards
from gmpo_vl.report.charts import show
from gmpo_vl.report.curves import by_kind, curves
from gmpo_vl.report.games import game_cards, games_before_and_after
from gmpo_vl.report.gather import (
    changes_on_the_way,
    clock,
    facts,
    progress,
    ratio_limits,
    read_evaluations,
    read_settings,
    read_summary,
)
from gmpo_vl.report.look import blind_warnings, look_charts
from gmpo_vl.runs import Run, StudyFolder, few
from gmpo_vl.storage.files import write_text


def _not_a_run(folder: Path) -> str:
    study = StudyFolder(folder)
    if study.study_file.exists():
        return (
            f"{folder} is a study's folder, not a run's: `gmpo-vl study` writes its page, {study.page_file}. "
            f"The runs are below {folder / 'runs'}"
        )
    return f"{folder} is not a run's folder: it has no metrics.jsonl, rollouts/ or summary.json"


def write_report(run_folder: str | Path) -> Path:
    """Write RUN/report.html from what the run has so far, and return its path.

    Raises FileNotFoundError where the folder holds no run, ValueError where a file of it cannot be read.
    """
    run = Run(run_folder)
    metrics = run.read_metrics()
    disorder = few(run.disorder())
    for line in disorder:
        print(f"WARNING: {line}", file=sys.stderr)
    summary = read_summary(run.folder)
    cards = training_cards(run)
    games = game_cards(run)
    if not metrics and not cards and not games and summary is None:
        raise FileNotFoundError(_not_a_run(run.folder))
    settings = read_settings(run.folder)
    drawn = curves(metrics, ratio_limits(settings))
    html = render(
        "run.html.jinja",
        name=settings.get("trainer.experiment_name", run.folder.resolve().name),
        settings=settings,
        summary=summary,
        evaluations=read_evaluations(run.folder),
        facts=facts(metrics, settings),
        progress=progress(metrics),
        missing=run.missing_steps(),
        disorder=disorder,
        changes=changes_on_the_way(run.folder),
        kinds=len(by_kind(metrics)),
        blind=blind_warnings(metrics),
        charts=[*drawn[:2], *look_charts(metrics), *drawn[2:]],
        cards=cards,
        games=games,
        twice=games_before_and_after(run),
        pairs=before_and_after(run),
    )
    path = run.folder / "report.html"
    write_text(path, html)
    return path


def render(template: str, **values: Any) -> str:
    """A page of this package with its style and script inside.

    Everything put into it is escaped: problems and responses were written by data sets and models.
    """
    script = _asset("page.js")
    page = _environment().get_template(template)
    return page.render(
        style=Markup(_asset("page.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=__version__,
        **values,
    )


@cache
def _environment() -> Environment:
    """Kept with the templates it has compiled: that takes longer than a page."""
    environment = Environment(
        loader=PackageLoader("gmpo_vl.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["points"] = lambda share: f"{100 * share:+.1f}".replace("-", "−")
    environment.filters["clock"] = clock
    environment.filters["short_path"] = short_path
    environment.filters["figure"] = lambda value: show(value, "")
    return environment


def short_path(name: object) -> str:
    """A hub id as it is; of a longer path its last two parts: a page is shown elsewhere than it was made."""
    name = str(name)
    parts = name.replace("\\", "/").rstrip("/").split("/")
    return "/".join(parts[-2:]) if len(parts) > 2 or name.startswith("/") else name


def _asset(name: str) -> str:
    return files("gmpo_vl.report").joinpath(name).read_text(encoding="utf-8")
