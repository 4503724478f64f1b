"""What benchmarks count, against loops over made-up verdicts, and against DynaMath's published totals."""

from collections import defaultdict
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from gmpo_vl.evaluation.aggregates import (
    AGGREGATES,
    HALLUSIONBENCH,
    MATHVERSE_VERSIONS,
    aggregated,
    check_columns,
    in_lines,
)
from gmpo_vl.evaluation.protocols import checked, load_protocol, protocol_of_data
from gmpo_vl.samples import SampleRecord

N = 3


def record(i: int, k: int, meta: dict, correct: bool) -> SampleRecord:
    fixed = {"prompt": "", "images": [], "response": "", "finished": True, "gold": "", "extracted": None}
    fixed |= {"gold_type": "text", "outcome": "equal", "reward": {}, "seed": 0, "length": 1}
    return SampleRecord(id=f"q{i}", group=f"q{i}", k=k, correct=correct, meta=meta, **fixed)


def answers(metas: list[dict], seed: int = 0, share: float = 0.6) -> tuple[list[SampleRecord], np.ndarray]:
    right_Qn = np.random.default_rng(seed).random((len(metas), N)) < share
    return [
        record(i, k, meta, bool(right_Qn[i, k])) for i, meta in enumerate(metas) for k in range(N)
    ], right_Qn


def values(name: str, metas: list[dict], seed: int = 0) -> tuple[dict[str, float], np.ndarray]:
    records, right_Qn = answers(metas, seed)
    return {key: share["value"] for key, share in aggregated(name, records, N).items()}, right_Qn


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wemath_is_what_its_outcomes_say(seed):
    parts = {2: ["1", "2", "multi"], 3: ["1", "2", "3", "multi"]}
    words = {2: "two steps", 3: "three steps"}
    metas = [
        {"problem_id": f"{steps}steps_{p}", "part": part, "steps": str(steps),
         "step": words[steps] if part == "multi" else "one step"}
        for steps in parts for part in parts[steps] for p in range(30)
    ]  # fmt: skip
    found, right_Qn = values("wemath", metas, seed)
    counts: dict[str, int] = defaultdict(int)
    for problem, k in product(sorted({m["problem_id"] for m in metas}), range(N)):
        right = {m["part"]: right_Qn[i, k] for i, m in enumerate(metas) if m["problem_id"] == problem}
        whole = right.pop("multi")
        steps = list(right.values())
        counts["IK"] += not all(steps) and not whole
        counts["IG"] += all(steps) and not whole
        counts["CM strict"] += all(steps) and whole
        counts["RM strict"] += not all(steps) and whole
        counts["CM loose"] += any(steps) and whole
        counts["RM loose"] += not any(steps) and whole
    total = 60 * N
    for kind in ("strict", "loose"):
        cm, rm = counts[f"CM {kind}"], counts[f"RM {kind}"]
        score = (total - 0.5 * counts["IG"] - rm - counts["IK"]) / total  # the official formula
        assert found[f"score ({kind})"] == pytest.approx(score)
        assert found[f"CM ({kind})"] == pytest.approx(cm / total)
        assert found[f"RM ({kind})"] == pytest.approx(rm / (rm + cm))
    assert found["IK"] == pytest.approx(counts["IK"] / total)
    assert found["IG"] == pytest.approx(counts["IG"] / total)
    one_step = [right_Qn[i] for i, m in enumerate(metas) if m["part"] != "multi"]
    assert found["step: one step"] == pytest.approx(np.mean(one_step))


def test_wemath_leaves_out_problems_whose_steps_were_not_all_asked():
    step = {"steps": "2", "step": "one step"}
    metas = [{"problem_id": "2steps_1", "part": part, **step} for part in ("1", "2", "multi")]
    metas.append({"problem_id": "2steps_2", "part": "1", **step})
    assert aggregated("wemath", answers(metas)[0], N)["IK"]["units"] == 1
    assert aggregated("wemath", answers(metas[-1:])[0], N).keys() == {"step: one step"}


def test_mathverse_is_the_mean_of_its_five_versions():
    metas = [
        {"problem_id": str(p), "version": version, "subject": ("Plane", "Solid")[p % 2]}
        for version in MATHVERSE_VERSIONS
        for p in range(12)
    ]
    metas += [{"problem_id": str(p), "version": "Text Only", "subject": "Plane"} for p in range(12)]
    metas += [{"problem_id": "99", "version": "Text Lite", "subject": "Plane"}]  # the others were not asked
    for meta in metas:
        if meta["version"] == "Text Only":
            meta["subject"] = "Solid"  # no problem is told by it
    found, right_Qn = values("mathverse", metas)
    of_version = {
        version: np.mean([right_Qn[i] for i, m in enumerate(metas) if m["version"] == version and i < 60])
        for version in MATHVERSE_VERSIONS
    }
    assert found["mean of the five versions"] == pytest.approx(np.mean(list(of_version.values())))
    assert found["version: Vision Only"] == pytest.approx(of_version["Vision Only"])
    assert found["version: Text Only"] == pytest.approx(right_Qn[60:72].mean())
    solid = [right_Qn[i] for i, m in enumerate(metas) if m["subject"] == "Solid" and i < 60]
    assert found["subject: Solid"] == pytest.approx(np.mean(solid))


def figures_and_questions() -> list[dict]:
    """Sets of three figures with two questions each; sets of two subcategories have the same numbers."""
    return [
        {"category": category, "subcategory": subcategory, "visual_input": visual, "set_id": str(s),
         "figure_id": str(f), "question_id": str(q), "figure_rows": "2", "question_rows": "3",
         "question_rows_with_picture": "2" if category == "VS" else "3"}
        for category in ("VD", "VS") for subcategory in ("chart", "map")
        for s in range(8) for f in range(3) for q in range(2)
        for visual in ["0" if category == "VS" and f == 0 else str(1 + (f > 1))]
    ]  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
def test_hallusionbench_counts_answers_questions_and_figures(seed):
    metas = figures_and_questions()
    found, right_Qn = values("hallusionbench", metas, seed)

    def share_of_whole(key: str, keep) -> float:
        groups = defaultdict(list)
        for i, m in enumerate(metas):
            if keep(m):
                groups[m["category"], m["subcategory"], m["set_id"], m[key]].append(i)
        return float(
            np.mean([all(right_Qn[i, k] for i in group) for group in groups.values() for k in range(N)])
        )

    def seen(m: dict) -> bool:
        return m["visual_input"] != "0"

    assert found["aAcc"] == pytest.approx(right_Qn.mean())
    assert found["aAcc (with a picture)"] == pytest.approx(
        np.mean([right_Qn[i] for i, m in enumerate(metas) if seen(m)])
    )
    assert found["qAcc"] == pytest.approx(share_of_whole("question_id", lambda m: True))
    assert found["qAcc (with a picture)"] == pytest.approx(share_of_whole("question_id", seen))
    assert found["fAcc"] == found["fAcc (with a picture)"] == pytest.approx(share_of_whole("figure_id", seen))


def test_hallusionbench_leaves_out_what_was_half_asked():
    metas = (
        figures_and_questions()
    )  # of VD first: figure 0 with questions 0 and 1, figure 1, figure 2, a set more
    units = [("qAcc", 2), ("fAcc", 3), ("qAcc (with a picture)", 2), ("fAcc (with a picture)", 3)]
    assert [
        (name, aggregated("hallusionbench", answers(metas[:7])[0], N)[name]["units"]) for name, _ in units
    ] == units
    found = aggregated("hallusionbench", answers(metas[:3])[0], N)
    assert found["fAcc"]["units"] == 1, "of figure 1 one question was asked"
    assert not {"qAcc", "qAcc (with a picture)"} & found.keys(), "two of its three figures were not asked"
    of_vs = [m for m in metas if m["category"] == "VS"]
    seen = aggregated("hallusionbench", answers([m for m in of_vs if m["visual_input"] != "0"])[0], N)
    assert seen["qAcc (with a picture)"]["units"] == 32
    assert "qAcc" not in seen, "without those that are asked without a picture"
    assert seen["fAcc"] == seen["fAcc (with a picture)"]
    assert seen["fAcc"]["units"] == 32


def test_rows_of_unknown_sizes_have_no_units():
    """Those of a result from before the sizes were columns, which is graded again. New ones are refused."""
    before = [{key: m[key] for key in HALLUSIONBENCH} for m in figures_and_questions()[:3]]
    found = aggregated("hallusionbench", answers(before)[0], N)
    assert {"aAcc", "aAcc (with a picture)"} <= found.keys()
    assert not [name for name in found if name.startswith(("qAcc", "fAcc"))]
    with pytest.raises(
        ValueError, match="by the columns question_rows_with_picture, question_rows, figure_rows"
    ):
        check_columns("hallusionbench", "q0", before[0])


@pytest.mark.parametrize("name", ["hallusionbench", "wemath"])
def test_numbers_count_as_the_texts_that_say_them(name):
    metas = figures_and_questions() if name == "hallusionbench" else shuffled_steps()
    kinds = (int, float)
    numbers = [
        {key: kinds[i % 2](value) if value.isdecimal() else value for key, value in meta.items()}
        for i, meta in enumerate(metas)
    ]
    assert numbers != metas
    assert aggregated(name, answers(numbers)[0], N) == aggregated(name, answers(metas)[0], N)


def shuffled_steps() -> list[dict]:
    """We-Math's problems of two steps, the whole problem anywhere among them."""
    metas = [
        {"problem_id": f"2steps_{p}", "part": part, "steps": "2", "step": "one step"}
        for p in range(30)
        for part in ("1", "2", "multi")
    ]
    return [metas[i] for i in np.random.default_rng(5).permutation(len(metas))]


def test_wemath_takes_the_parts_of_a_problem_in_any_order():
    metas = shuffled_steps()
    found, right_Qn = values("wemath", metas)
    whole = {m["problem_id"]: right_Qn[i] for i, m in enumerate(metas) if m["part"] == "multi"}
    steps = {
        p: [right_Qn[i] for i, m in enumerate(metas) if m["problem_id"] == p and m["part"] != "multi"]
        for p in whole
    }
    general = [all(s[k] for s in steps[p]) and not whole[p][k] for p in whole for k in range(N)]
    assert found["IG"] == pytest.approx(np.mean(general))


def test_wemath_and_mathverse_count_no_question_for_another():
    """Rows of one's own can hold a part twice, which makes no whole problem."""
    step = {"problem_id": "2steps_1", "steps": "2", "step": "one step"}
    twice = [{**step, "part": part} for part in ("1", "1", "multi")]
    assert aggregated("wemath", answers(twice)[0], N).keys() == {"step: one step"}
    five = [{"problem_id": "1", "subject": "Plane", "version": "Text Lite"} for _ in range(5)]
    assert "mean of the five versions" not in aggregated("mathverse", answers(five)[0], N)


def test_dynamath_averages_and_takes_the_worst_of_ten():
    metas = [
        {"question_id": str(q), "subject": ("algebra", "statistics")[q % 2], "level": "high school"}
        for v in range(10)
        for q in range(20)
    ]
    metas.append({"question_id": "99", "subject": "algebra", "level": "high school"})
    metas[199]["subject"] = "geometry"  # the last variant of question 19: its first one says what it is
    records, right_Qn = answers(metas, share=0.9)
    found = aggregated("dynamath", records, N)
    right_vqn = right_Qn[:200].reshape(10, 20, N)
    assert found["average"]["value"] == pytest.approx(right_vqn.mean())
    assert found["worst case"]["value"] == pytest.approx(right_vqn.all(axis=0).mean())
    assert 0 < found["worst case"]["value"] < found["average"]["value"]
    assert found["worst case"]["units"] == 20
    even = right_vqn[:, ::2].all(axis=0).mean()
    assert found["worst case, subject: algebra"]["value"] == pytest.approx(even)
    assert found["average, subject: statistics"]["units"] == 10
    assert not any("geometry" in name for name in found)


@pytest.mark.parametrize("name", ["chartqa", "logicvista", "mathvision", "mathvista", "mmmu"])
def test_the_others_count_by_their_columns(name):
    columns = AGGREGATES[name].columns
    metas = [{column: f"{column} {i % (2 + j)}" for j, column in enumerate(columns)} for i in range(30)]
    records, right_Qn = answers(metas)
    found = aggregated(name, records, N)
    assert len(found) == sum(2 + j for j in range(len(columns)))
    for key, share in found.items():
        column, _, value = key.partition(": ")
        places = [i for i, m in enumerate(metas) if m[column] == value]
        assert share["value"] == pytest.approx(right_Qn[places].mean())
        assert share["units"] == len(places)
        assert (share["ci95"] is None) == (len(places) < 10)
        if share["ci95"]:
            low, high = share["ci95"]
            assert low <= share["value"] <= high


def test_a_question_of_two_skills_counts_for_both():
    metas = [{"question_type": "free_form", "task": "t", "skills": skills} for skills in ("a; b", "b")]
    found, right_Qn = values("mathvista", metas)
    assert found["skills: a"] == pytest.approx(right_Qn[0].mean())
    assert found["skills: b"] == pytest.approx(right_Qn.mean())


def test_a_missing_column_and_a_misspelt_aggregate_are_named():
    with pytest.raises(ValueError, match="aggregate chartqa counts by the column part, which question q0"):
        aggregated("chartqa", answers([{"x": 1}])[0], N)
    step = {"problem_id": "2steps_1", "part": "1", "steps": "two", "step": "one step"}
    with pytest.raises(ValueError, match="aggregate wemath: steps of question q0 is 'two', no whole number"):
        aggregated("wemath", answers([step])[0], N)
    with pytest.raises(ValueError, match="no aggregate 'chartq'; did you mean chartqa"):
        checked(replace(protocol_of_data("mine.parquet"), aggregate="chartq"))
    with pytest.raises(ValueError, match="questions are counted there, not games"):
        checked(replace(load_protocol("gridworld"), aggregate="chartqa"))


def test_the_terminal_shows_intervals_of_scores_and_a_line_a_column():
    shares = {
        "worst case": {"value": 0.25, "ci95": [0.2, 0.3], "units": 501},
        "RM (loose)": {"value": 0.5, "ci95": None, "units": 3},
        "level: 1": {"value": 0.125, "ci95": [0.1, 0.2], "units": 40},
        "level: 2": {"value": 1.0, "ci95": None, "units": 4},
    }
    assert in_lines(shares) == [
        "worst case  25.0 (20.0 to 30.0, 501 units)",
        "RM (loose)  50.0",
        "level  1 12.5, 2 100.0",
    ]
