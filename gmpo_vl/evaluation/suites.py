"""Two suites of results, such as before and after training: every benchmark that both have, and how far each
needs its pictures.

A benchmark is known by its result's name. Results with other pictures (`NAME+pictures=blank`) are controls of
NAME, and no benchmarks of their own. Nor is a judged result where both sides have the one that it was made
of: the same answers would count twice.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from gmpo_vl.evaluation.comparison import Compared, ReadShares, compare, shares_of
from gmpo_vl.evaluation.protocols import name_of_data, protocol_names
from gmpo_vl.evaluation.results import result_folders
from gmpo_vl.evaluation.statistics import Estimate, holm, mean_difference
from gmpo_vl.runs import EvaluationFolder

CONTROLS = {"blank": "grey pictures", "wrong": "another question's pictures"}
AS_IS = "as_is"


@dataclass(frozen=True)
class Stored:
    """A finished evaluation, and what its results.json says."""

    folder: EvaluationFolder
    results: dict[str, Any]


@dataclass(frozen=True)
class Side:
    """What one side's folders hold, a training seed each. seeds: {(benchmark, pictures): result} of each."""

    paths: list[Path]
    seeds: list[dict[tuple[str, str], Stored]]

    @property
    def benchmarks(self) -> list[str]:
        """Of any of the seeds, in the order of the folders."""
        return list(dict.fromkeys(name for seed in self.seeds for name, shown in seed if shown == AS_IS))

    def results(self, benchmark: str, pictures: str = AS_IS) -> list[Stored]:
        """One a seed; none where no seed has one. Raises ValueError where some have it and some do not."""
        found = [seed.get((benchmark, pictures)) for seed in self.seeds]
        missing = [str(path) for path, stored in zip(self.paths, found) if stored is None]
        if missing and len(missing) < len(found):
            what = benchmark if pictures == AS_IS else f"{benchmark} with {pictures} pictures"
            raise ValueError(f"{what} is missing in {', '.join(missing)}: each training seed must have it")
        return [stored for stored in found if stored is not None]


@dataclass(frozen=True)
class Pictures:
    """What the right pictures are worth to one side: with them - with the control's, or why nobody knows."""

    compared: Compared | None = None
    missing: str = ""


@dataclass(frozen=True)
class Benchmark:
    """before, after: the results, one a seed. p_holm: the p-value, corrected for all benchmarks. needs:
    {control: of before and of after}."""

    name: str
    before: list[Stored]
    after: list[Stored]
    compared: Compared
    p_holm: float
    needs: dict[str, tuple[Pictures, Pictures]] = field(default_factory=dict)


@dataclass(frozen=True)
class ComparedSuites:
    """mean: of the benchmarks' differences, each with the same weight. refused: {benchmark: why}. only:
    benchmarks that one side alone has. judged: results that are left out."""

    benchmarks: list[Benchmark]
    mean: Estimate
    refused: dict[str, str]
    only: tuple[list[str], list[str]]
    judged: list[str] = field(default_factory=list)


def name_and_pictures(name: str) -> tuple[str, str]:
    """`mathvista+n=4,pictures=blank` is (`mathvista+n=4`, `blank`); of any other result (name, `as_is`)."""
    base, _, changes = name.partition("+")
    parts = changes.split(",") if changes else []
    for control in CONTROLS:
        if (change := f"pictures={control}") in parts:
            parts.remove(change)
            return "+".join([base, *([",".join(parts)] if parts else [])]), control
    return name, AS_IS


def read_side(paths: Sequence[Path]) -> Side:
    """Each path is a folder of results, or one result, whose controls lie beside it. Raises FileNotFoundError
    for none, ValueError for two of one name, and for a path that is given twice: it is one training seed."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError(
            f"{', '.join(map(str, paths))}: one of them comes twice, and each is a training seed"
        )
    return Side(list(paths), [_one_seed(path) for path in paths])


def _one_seed(path: Path) -> dict[tuple[str, str], Stored]:
    found: dict[tuple[str, str], Stored] = {}
    alone = (path / "results.json").exists()
    for stored in _stored(result_folders([path.resolve().parent if alone else path])):
        key = name_and_pictures(stored.results["name"])
        if key in found:
            names = f"{found[key].folder.folder} and {stored.folder.folder}"
            raise ValueError(f"{names} are both called {stored.results['name']}: a suite has one of a name")
        found[key] = stored
    if alone:
        benchmark, _ = name_and_pictures(EvaluationFolder(path).results()["name"])
        return {key: stored for key, stored in found.items() if key[0] == benchmark}
    return found


def _stored(folders: Iterable[EvaluationFolder]) -> list[Stored]:
    return [Stored(folder, folder.results()) for folder in folders]


def is_suite(paths: Sequence[Path]) -> bool:
    """Whether the paths are folders of results, of which one at least holds several."""
    inside = [len(list(path.glob("*/results.json"))) for path in paths]
    return max(inside) > 1 and not any((path / "results.json").exists() for path in paths)


def compare_suites(a: Side, b: Side, grader: str = "overall", controls: bool = False) -> ComparedSuites:
    """b against a, benchmark by benchmark, with p-values after Holm's correction over all of them.

    What cannot be compared is told in `refused`, and costs the others nothing. controls: compare the right
    pictures with the controls', too. Raises ValueError where nothing can be compared.
    """
    a, b, judged = _without_judged(a, b)
    read = cache(shares_of)  # the right pictures' answers are compared several times
    refused: dict[str, str] = {}
    found: dict[str, tuple[list[Stored], list[Stored], Compared]] = {}
    for name in (name for name in a.benchmarks if name in b.benchmarks):
        try:
            before, after = a.results(name), b.results(name)
            found[name] = before, after, compare(_folders(before), _folders(after), grader, read)
        except (ValueError, FileNotFoundError) as error:
            refused[name] = str(error)
    only = [name for name in a.benchmarks if name not in b.benchmarks]
    also = [name for name in b.benchmarks if name not in a.benchmarks]
    if not found:
        said = [f"{name}: {why}" for name, why in refused.items()]
        if not refused:
            said = [f"a has {', '.join(only) or 'none'}", f"b has {', '.join(also) or 'none'}"]
        raise ValueError(f"no benchmark can be compared: {'; '.join(said)}")
    adjusted = holm([compared.difference.p_value for *_, compared in found.values()])
    benchmarks = [
        Benchmark(name, before, after, compared, p, _needs(name, a, b, grader, read) if controls else {})
        for p, (name, (before, after, compared)) in zip(adjusted, found.items())
    ]
    mean = mean_difference([(compared.a_SQ, compared.b_SQ) for *_, compared in found.values()])
    return ComparedSuites(benchmarks, mean, refused, (only, also), judged)


def _without_judged(a: Side, b: Side) -> tuple[Side, Side, list[str]]:
    """The sides without the judged results of answers that both have by rules, and the names of those."""
    both = {name for name in a.benchmarks if name in b.benchmarks}
    left: dict[str, None] = {}

    def kept(side: Side) -> Side:
        judged = [
            [key for key, stored in seed.items() if stored.results.get("judge", {}).get("of") in both]
            for seed in side.seeds
        ]
        left.update(
            (seed[key].results["name"], None) for seed, keys in zip(side.seeds, judged) for key in keys
        )
        seeds = [
            {key: stored for key, stored in seed.items() if key not in keys}
            for seed, keys in zip(side.seeds, judged)
        ]
        return Side(side.paths, seeds)

    return kept(a), kept(b), list(left)


def _folders(stored: Sequence[Stored]) -> list[EvaluationFolder]:
    return [one.folder for one in stored]


def _needs(
    name: str, a: Side, b: Side, grader: str, read: ReadShares
) -> dict[str, tuple[Pictures, Pictures]]:
    def of(side: Side, control: str) -> Pictures:
        try:
            right, controls = side.results(name), side.results(name, control)
            if not controls:
                return Pictures(missing=how_to_measure(right[0], control))
            for one, other in zip(right, controls):
                if one.results.get("model") != other.results.get("model"):
                    raise ValueError(f"{other.folder.folder} is of another model than {one.folder.folder}")
            return Pictures(compare(_folders(controls), _folders(right), grader, read))
        except (ValueError, FileNotFoundError) as error:
            return Pictures(missing=f"{name}, {control} pictures: {error}")

    return {control: (of(a, control), of(b, control)) for control in CONTROLS}


def how_to_measure(right: Stored, control: str) -> str:
    """The command that asks with the control's pictures; its result will lie beside the right one."""
    settings, source = right.results["settings"], right.results["data"]["source"]
    base, _, changes = right.results["name"].partition("+")
    if "imported" in settings:
        return (
            f"{right.results['name']} is imported: its harness would have to answer with {control} pictures"
        )
    if "judge" in right.results:
        return (
            f"{right.results['name']} is judged: ask with {control} pictures as "
            f"{right.results['judge']['of']} was asked, and have that result judged (`gmpo-vl eval judge`)"
        )
    of_data = base == name_of_data(source) and base not in protocol_names()
    protocol = base if base in protocol_names() else f"{base}.yaml"  # a file, wherever it lies
    command = ["gmpo-vl", "eval", right.results["model"]["path"]]
    command += ["--data", source] if of_data else ["--protocol", protocol]
    for key in (change.partition("=")[0] for change in changes.split(",") if change):
        value = source if key == "data" else settings.get(key)
        said = json.dumps(value) if isinstance(value, dict) else str(value)
        command += [f"--{key.replace('_', '-')}", said]
    command += ["--pictures", control, "--out", str(right.folder.folder.parent)]
    return " ".join(map(shlex.quote, command))
