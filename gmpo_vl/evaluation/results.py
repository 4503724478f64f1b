"""results.json: the figures of an evaluation's samples, and what they depend on (docs/formats.md).

Importing this needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from gmpo_vl.evaluation.aggregates import aggregated
from gmpo_vl.evaluation.at_k import all_at_k, majority_at_k, pass_at_k
from gmpo_vl.evaluation.chunks import count_of_chunks, sound_chunks
from gmpo_vl.evaluation.games import figures_of_games, notes_of_games
from gmpo_vl.evaluation.imported.notes import notes_of_import
from gmpo_vl.evaluation.judged.figures import notes_of_judge, rules_and_judge
from gmpo_vl.evaluation.official import official_aggregates, official_figures
from gmpo_vl.evaluation.protocols import PROFILES
from gmpo_vl.evaluation.statistics import mean_share
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import JUDGE, OFFICIAL, SampleRecord, episodes, without_text
from gmpo_vl.storage.files import write_json
from gmpo_vl.verify import parse_gold
from gmpo_vl.verify.equivalence import clusters

Differences = dict[str, tuple[Any, Any]]


# --- from samples to figures --------------------------------------------------------------------------------
def figures(records: Sequence[SampleRecord], n: int) -> dict[str, Any]:
    """Everything that is counted. `records`: n per question, a question's together. Of games a sample is an
    episode, and `truncated` and `mean_length` are of turns.

    Where a reward without verdicts graded, nobody knows what it took for the answer: `no_answer` and `maj@k`
    are left out.
    """
    correct_Q = counts(records, n)
    turns, records = records, [turns[-1] for turns in episodes(records)]
    explained = any(r.outcome not in ("scored", "unscored") for r in records)
    estimate = mean_share(correct_Q / n)
    found: dict[str, Any] = {
        "pass@1": estimate.value,
        "ci95": [estimate.low, estimate.high],
        "questions": len(correct_Q),
        "n": n,
        "truncated": float(np.mean([not r.finished for r in turns])),
        **({"no_answer": float(np.mean([r.extracted is None for r in records]))} if explained else {}),
        "timeouts": sum(r.outcome == "timeout" for r in records),
    }
    if any(r.length for r in turns):  # nobody may have counted the tokens of imported answers
        found["mean_length"] = float(np.mean([r.length for r in turns]))
    if records[0].turn:
        found |= figures_of_games(turns, n)
    if n > 1:
        ks = [k for k in (2, 4, 8, 16, 32, 64, 128, 256) if k < n] + [n]
        for key, at_k in (("pass@k", pass_at_k), ("all@k", all_at_k)):
            found[key] = {str(k): _share(at_k(correct_Q, n, k)) for k in ks}
    if n > 1 and explained:
        questions = [_votes(records[at : at + n]) for at in range(0, len(records), n)]
        found["maj@k"] = {
            str(k): _share(np.array([majority_at_k(votes, right, k) for votes, right in questions]))
            for k in ks
        }
    if all(profile in records[0].reward for profile in PROFILES):
        found["graders"] = {profile: _share(counts(records, n, profile) / n) for profile in PROFILES}
        found["disputed"] = float(np.mean([r.reward["strict"] != r.reward["paper"] for r in records]))
    if (official := official_figures(records)) is not None:
        found["official"] = official
    scored = [r for r in records if r.outcome != "unscored"]
    kinds = {tuple(r.reward) for r in scored or records}
    parts = set.intersection(*map(set, kinds)) - {*PROFILES, OFFICIAL, JUDGE}
    if len(scored) < len(records):
        parts.add("unscored")
    if parts != {"overall"} or records[0].turn:
        order = sorted(parts, key=lambda part: (part != "overall", part))
        found["reward"] = {part: _mean_of(part, records) for part in order}
    return found


def _mean_of(part: str, records: Sequence[SampleRecord]) -> float:
    """Over the answers that the reward could score; `unscored` is the share of the others."""
    if part == "unscored":
        return float(np.mean([r.outcome == "unscored" for r in records]))
    scored = [r for r in records if r.outcome != "unscored"]
    return float(np.mean([r.reward[part] for r in scored])) if scored else 0.0


def counts(records: Sequence[SampleRecord], n: int, profile: str = "overall") -> np.ndarray:
    """int64 (Q,): right samples of each question, by the grader that counts (`overall`) or by one profile. Of
    games: won episodes."""
    records = [turns[-1] for turns in episodes(records)]
    if len(records) == 0 or len(records) % n != 0:
        raise ValueError(f"{len(records)} samples are not {n} for each question")
    if profile != "overall" and not all(profile in r.reward for r in records):
        raise ValueError(f"these answers were not graded by {profile}: `overall` is the grader that counted")
    right = [r.correct if profile == "overall" else r.reward[profile] >= 0.5 for r in records]
    return np.array(right, dtype=np.int64).reshape(-1, n).sum(axis=1)


def _votes(group: Sequence[SampleRecord]) -> tuple[list[int | None], list[bool]]:
    """(what each of a question's samples votes for, is it right). Equal answers vote for one thing."""
    try:
        choices = parse_gold(group[0].gold).choices
    except ValueError:  # a gold that only the reward can read
        choices = ()
    return clusters([r.extracted for r in group], choices), [r.correct for r in group]


def _share(shares_Q: np.ndarray) -> dict[str, Any]:
    estimate = mean_share(shares_Q)
    return {"value": estimate.value, "ci95": [estimate.low, estimate.high]}


# --- files --------------------------------------------------------------------------------------------------
def versions() -> dict[str, str]:
    """Of the libraries that decide what comes out."""
    return {name: version(name) for name in ("gmpo-vl", "torch", "transformers", "pillow", "math-verify")}


def write_results(
    folder: EvaluationFolder, records: Sequence[SampleRecord], n: int, stated: dict[str, Any], **first: Any
) -> None:
    """Write results.json: the figures, and what is stated about them. first: keys before the figures."""
    write_json(folder.results_file, {**first, **figures(records, n), **stated})


def write_protocol_results(
    folder: EvaluationFolder, plan: dict[str, Any], records: Sequence[SampleRecord]
) -> None:
    """Write the results of an evaluation by protocol. Raises ValueError where samples are missing."""
    n = plan["protocol"]["n"]
    if (count := len(episodes(records))) != (wanted := plan["questions"] * n):
        raise ValueError(
            f"{folder.samples_file} holds {count} samples, the evaluation had {wanted}: "
            f"it is damaged. Delete {folder.folder} and evaluate again"
        )
    known = ("template", "data", "model", "backend", "versions", "grader", "judge", "environment")
    copied = {key: plan[key] for key in known if key in plan}
    said = [*_unscored(records), *notes_of_games(records), *notes(plan)]
    aggregate = plan["protocol"].get("aggregate")
    counted = {} if aggregate is None else {"aggregates": aggregated(aggregate, records, n)}
    if "judge" in plan:
        said = [*notes_of_judge(plan), *said]
        counted = {"rules_and_judge": rules_and_judge(records, plan["judge"]["rules"]), **counted}
    if aggregate is not None and (official := official_aggregates(aggregate, records, n)):
        counted["official_aggregates"] = official
    stated = {**counted, "settings": plan["protocol"], **copied, "notes": said}
    write_results(folder, records, n, stated, name=plan["name"])


def notes(plan: dict[str, Any]) -> list[str]:
    """Why this number may not be the protocol's, in sentences; empty where nothing is known against it."""
    p, data, said = plan["protocol"], plan["data"], []
    if "imported" in p:
        return notes_of_import(plan)
    if "+" in p["name"]:
        what = "the protocol was changed" if is_published(p) else "set on the command line"
        said.append(f"{what}: {p['name'].partition('+')[2]}")
    if "unasked" in plan["template"]:
        said.append(
            "the prompts do not say where the answer goes: one elsewhere than the grader reads it "
            "counts as none (format_prompt: boxed or r1v asks for a place)"
        )
    if "split" in data:
        said.append(f"these are the rows to train on: {data['source']}@validation or @test names others")
    if "bad_rows" in data:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in data["bad_rows"].items())
        said.append(f"rows of the data that cannot be used were left out: {reasons}")
    if data["pinned"] is False:
        said.append("the data is not the protocol's (another sha256)")
    elif data["pinned"] is None and is_published(p):  # of data of one's own nothing is published
        said.append(
            "the protocol's data could not be pinned: compare data.sha256 with that of the other result"
        )
    if p["questions"] is not None and data["rows"] != p["questions"]:
        said.append(f"the data has {data['rows']} questions, the protocol's {p['questions']}")
    if p["pictures"] != "as_is":
        said.append(f"a control: the pictures are {p['pictures']}")
    if "official" in p:
        if _lacks_judge(plan):
            said.append("`gmpo-vl eval judge` sets a judge model's verdicts beside the rules'")
        said.append(f"the official score: {p['official']}")
    return said


def _lacks_judge(plan: dict[str, Any]) -> bool:
    """Whether rules graded where a model decides in the official score."""
    return plan["protocol"].get("judge") == "model" and plan["protocol"]["grader"] in PROFILES


def is_published(protocol: dict[str, Any]) -> bool:
    """Whether a protocol, as results state it, is of a benchmark of which others publish numbers."""
    return bool(protocol["benchmark"] or protocol.get("official"))


def _unscored(records: Sequence[SampleRecord]) -> list[str]:
    """Of answers; notes_of_games tells of games."""
    if not (count := sum(r.outcome == "unscored" and not r.turn for r in records)):
        return []
    return [
        f"{count} of {len(records)} answers could not be scored and count as wrong: `gmpo-vl eval regrade` "
        "asks about them again; what a judge has answered is kept"
    ]


def finish(folder: EvaluationFolder) -> dict[str, Any]:
    """Join the chunks, write results.json and return it. Raises ValueError while chunks are missing."""
    plan = _plan(folder)
    if not folder.finished:
        chunks = count_of_chunks(plan)
        missing = sorted(set(range(chunks)) - sound_chunks(folder, plan))
        if missing:
            raise ValueError(
                f"{folder.folder}: {len(missing)} of {chunks} chunks are missing (the first is "
                f"{missing[0]}); run the same command again, or the shards that were not run"
            )
        folder.join_chunks(chunks)
        folder.remove_half_written()
        write_protocol_results(folder, plan, list(map(without_text, folder.samples())))
    folder.remove_chunks()
    return folder.results()


def merge(folders: Sequence[Path]) -> dict[str, Any]:
    """Take the chunks of shards that ran in several places into the first folder, and finish it."""
    first, *others = [EvaluationFolder(folder) for folder in folders]
    plan = _plan(first)
    for other in others:
        if differences := differing(plan, other.plan() or {}):
            raise ValueError(f"{other.folder} is no shard of {first.folder}: {in_words(differences)}")
        sound_chunks(first, plan)  # the other one may have what is bad here
        first.take_chunks(other)
    return finish(first)


def _plan(folder: EvaluationFolder) -> dict[str, Any]:
    plan = folder.plan()
    if plan is None:
        raise FileNotFoundError(f"{folder.folder} holds no evaluation: no plan.json")
    return plan


def result_folders(paths: Sequence[Path]) -> Iterator[EvaluationFolder]:
    """Finished evaluations: each path is one, or a folder of some."""
    for path in paths:
        inside = sorted(p.parent for p in path.glob("*/results.json"))
        found = [path] if (path / "results.json").exists() else inside
        if not found:
            raise FileNotFoundError(f"{path}: no finished evaluation here (no results.json)")
        yield from map(EvaluationFolder, found)


def one_result(path: Path) -> EvaluationFolder:
    """The evaluation that a path names: its folder, or a folder with it as the only finished one."""
    inside = sorted(p.parent for p in path.glob("*/results.json"))
    if (path / "results.json").exists() or not inside:
        return EvaluationFolder(path)
    if len(inside) > 1:
        names = ", ".join(folder.name for folder in inside)
        raise ValueError(f"{path} holds {len(inside)} evaluations; name one of them: {names}")
    return EvaluationFolder(inside[0])


# --- plans --------------------------------------------------------------------------------------------------
def differing(begun: dict[str, Any], wanted: dict[str, Any]) -> Differences:
    """{dotted key: (value of `begun`, value of `wanted`)}. Where a model or data set lies does not matter."""
    old, new = _leaves(begun), _leaves(wanted)
    keys = sorted((old.keys() | new.keys()) - {"model.path", "data.source", "protocol.data"})
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def in_words(differences: Differences) -> str:
    return "; ".join(
        f"{key} is {_shown(old)} there and {_shown(new)} now" for key, (old, new) in differences.items()
    )


def _shown(value: Any) -> Any:
    """A text that looks like something else in quotes: "24" is not 24."""
    return json.dumps(value) if isinstance(value, str) and not value[:1].isalpha() else value


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
