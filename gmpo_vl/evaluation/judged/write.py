"""A second result of the same answers, in which a judge model's verdicts count."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gmpo_vl.evaluation.judged.asking import Judge, judge_of, judge_records
from gmpo_vl.evaluation.protocols import PROFILES
from gmpo_vl.evaluation.results import differing, in_words, write_protocol_results
from gmpo_vl.rewards.endpoint import replies_in
from gmpo_vl.rewards.judging import TEMPLATE, Settings
from gmpo_vl.rewards.loading import load_reward
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import SampleRecord, samples_replaced
from gmpo_vl.storage.files import write_json

# Options of the reward that the command has in its own form, and why one has no place here.
_NOT_HERE = {
    "model": "it is --model",
    "base_url": "it is --base-url",
    "verify_first": "it is --only-refused",
    "format_weight": "a verdict counts here, and no form",
}
# The reward's other options that change a verdict. They stand in the plan whether they are given or not.
_OF_A_VERDICT = ("with_images", "temperature", "seed", "max_tokens", "extra_body", "answer_in")


@dataclass(frozen=True)
class Request:
    """Who is to judge. base_url: None for the reward's own. options: of the reward `judge`. out: the folder
    that the judged results lie in; by default each lies beside the result that it was made of."""

    model: str
    base_url: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    only_refused: bool = False
    out: Path | None = None


@dataclass(frozen=True)
class Judging:
    """One result that is to be judged: where it lies, where the judged one goes, and the latter's plan."""

    source: EvaluationFolder
    folder: EvaluationFolder
    plan: dict[str, Any]

    def judge(self) -> Judge:
        return judge_of(self.plan["judge"], self.folder.images)


def is_judged(folder: EvaluationFolder) -> bool:
    return "judge" in (folder.plan() or {})


def prepare(source: EvaluationFolder, request: Request) -> Judging:
    """Everything that can be said before a question is asked. Raises ValueError for a result that no judge
    can be set beside, for options that cannot be, and where the folder holds another result."""
    plan = source.plan()
    if plan is None:
        raise FileNotFoundError(f"{source.folder} has no plan.json: it was not written by `gmpo-vl eval`")
    _check_source(source, plan)
    settings = _settings(request, plan)
    if settings.with_images:
        _check_pictures(source)
    facts = _facts(settings, request, plan)
    name = f"{plan['name']}{',' if '+' in plan['name'] else '+'}judge={facts['name']}"
    protocol = {**plan["protocol"], "grader": f"judge={facts['name']}"}
    judged_plan = {**plan, "name": name, "protocol": protocol, "judge": facts}
    folder = EvaluationFolder((request.out or source.folder.parent) / name)
    _check_folder(folder, judged_plan)
    return Judging(source, folder, judged_plan)


def _check_source(source: EvaluationFolder, plan: dict[str, Any]) -> None:
    settings = plan["protocol"]
    if settings.get("environment"):
        raise ValueError(
            f"{source.folder} holds games, and each said itself whether it was won: no judge is asked"
        )
    if "judge" in plan:
        raise ValueError(f"{source.folder} is a judged result itself: name the one it was made of")
    if settings["grader"] not in PROFILES:
        raise ValueError(
            f"{source.folder} was graded by the reward {settings['grader']}, and a judge stands beside the "
            "rules of strict or paper: `gmpo-vl eval export` and `eval import` grade the same answers by "
            "strict"
        )


def _check_folder(folder: EvaluationFolder, plan: dict[str, Any]) -> None:
    """Raises ValueError for the judged result of another model's answers, or of a judge elsewhere: its name
    may be the same."""
    there = folder.plan()
    if there is None:
        return
    held, wanted = (
        {
            "base_url": p.get("judge", {}).get("base_url"),
            **{key: p[key] for key in ("model", "data", "protocol", "backend")},
        }
        for p in (there, plan)
    )
    if differences := differing(held, wanted):
        raise ValueError(
            f"{folder.folder} holds another judged result: {in_words(differences)}. Give another --out, or "
            "delete that folder"
        )


def _settings(request: Request, plan: dict[str, Any]) -> Settings:
    """Of the reward. Where answers are read is the result's own place; of imported ones, which stand
    anywhere, what is in a box is shown to the judge, and the whole response where there is none."""
    for name, why in _NOT_HERE.items():
        if name in request.options:
            raise ValueError(f"--options: {name} has no place there: {why}")
    place = plan["template"]["answer_in"]
    options = {"answer_in": "box" if place == "any" else place, **request.options, "model": request.model}
    if request.base_url is not None:
        options["base_url"] = request.base_url
    return Settings(**load_reward("judge", options).kwargs)


def _check_pictures(source: EvaluationFolder) -> None:
    named = {name for record in source.samples() for name in record.images}
    gone = [name for name in sorted(named) if not (source.images / f"{Path(name).name}.webp").is_file()]
    if gone or not named:
        what = (
            f"lacks {len(gone)} of {len(named)} pictures, such as {gone[0]}" if gone else "keeps no pictures"
        )
        raise ValueError(f"with_images: {source.folder} {what}: the judge is shown those that a result keeps")


def _facts(settings: Settings, request: Request, plan: dict[str, Any]) -> dict[str, Any]:
    """What the plan says of the judge. The key itself is never known here, only its variable's name."""
    of_verdict = {key: getattr(settings, key) for key in _OF_A_VERDICT}
    of_verdict["extra_body"] = dict(settings.extra_body)
    if settings.with_images:
        of_verdict["max_pixels"] = settings.max_pixels
    prompt = settings.prompt_sha256()
    decides = [prompt, settings.model, request.only_refused, of_verdict]
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]
    model = re.sub(r"[^A-Za-z0-9._-]+", "-", settings.model)[-60:].strip("-.") or "model"
    return {
        "name": f"{model}-{digest}",
        "model": settings.model,
        "base_url": settings.base_url,
        "prompt": Path(settings.prompt or TEMPLATE).name,
        "prompt_sha256": prompt,
        "rules": plan["protocol"]["grader"],
        "only_refused": request.only_refused,
        "of": plan["name"],
        "options": {**of_verdict, **request.options, "verify_first": False},
    }


def write_judged(judging: Judging) -> tuple[dict[str, Any], int]:
    """Ask the judge, write the result, and return it with the number of replies that were not known before.
    The folder's lock is the caller's. A command that was killed goes on: what was answered is kept elsewhere
    (`Settings.folder`), and the files are the same to the byte but for timing.json.

    Raises ConnectionError where too many answers have no verdict.
    """
    start, judge, folder = time.perf_counter(), judging.judge(), judging.folder
    known = replies_in(judge.settings.folder()).known
    before = len(known)
    folder.create()
    folder.remove_half_written()
    folder.take_pictures(judging.source)
    figures: list[SampleRecord] = []  # without texts, which may be gigabytes

    def records() -> Iterator[SampleRecord]:
        for record in judge_records(judging.source.samples(), judge):
            figures.append(replace(record, prompt="", response=""))
            yield record

    with samples_replaced(folder.samples_file, records()):
        write_json(folder.plan_file, judging.plan)
        new = len(known) - before
        write_json(folder.timing_file, {"seconds": round(time.perf_counter() - start, 3), "new_replies": new})
        write_protocol_results(folder, judging.plan, figures)
    return folder.results(), new
