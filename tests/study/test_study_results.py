"""The choice of rates, the intervals and the page, on runs that were written through runs.py."""

import json
from dataclasses import replace

import numpy as np
import pytest

from gmpo_vl.evaluation.statistics import mean_over_seeds, t_quantile
from gmpo_vl.samples import SampleRecord
from gmpo_vl.study.declaration import read_study
from gmpo_vl.study.estimates import collect
from gmpo_vl.study.figure import write_figure
from gmpo_vl.study.grid import fresh_runs, make_plan, tuning_runs
from gmpo_vl.study.outcomes import choose, freeze, outcome_of
from gmpo_vl.study.phases import open_study, write_findings
from gmpo_vl.study.quantities import QUANTITIES

RATES = {("grpo", "u2"): 3e-4, ("gmpo", "u2"): 1e-3, ("grpo", "u8"): 1e-4, ("gmpo", "u8"): 3e-4}
SCORES = {"grpo": (0.30, 0.34, 0.38), "gmpo": (0.36, 0.38, 0.46)}  # by fresh seed


@pytest.fixture
def tuned(study, finish):
    """Every tuning run; the best rate of a cell is 0.1 better, and one of its seeds is bad luck."""
    for run in tuning_runs(study):
        best = run.learning_rate == RATES[run.cell]
        finish(run, 0.2 + 0.2 * best - 0.1 * (run.seed == 2))


@pytest.fixture
def finished(study, folder, finish, tuned):
    for run in fresh_runs(study, freeze(study, folder)):
        finish(run, SCORES[run.method][run.seed - 11], **{"actor/grad_norm_max": float(run.seed)})


def test_students_quantiles():
    printed = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 30: 2.042}
    assert {df: round(t_quantile(df), 3) for df in printed} == printed
    estimate = mean_over_seeds(np.array([1.0, 2.0, 3.0]))
    assert (estimate.value, round(estimate.high - estimate.value, 3)) == (2.0, round(4.303 / 3**0.5, 3))
    with pytest.raises(ValueError, match="at least 2"):
        mean_over_seeds(np.array([1.0]))


def test_the_best_mean_is_chosen_and_an_edge_is_said(study, folder, tuned):
    assert freeze(study, folder) == RATES
    at_edge = {(c["method"], c["updates"]): c["at_edge"] for c in folder.chosen()}
    assert at_edge == {cell: rate != 3e-4 for cell, rate in RATES.items()}
    assert folder.chosen()[0]["score"] == pytest.approx(0.35)


def test_of_equal_rates_the_smallest(study, folder, finish):
    for run in tuning_runs(study):
        finish(run, 0.25)
    assert set(freeze(study, folder).values()) == {1e-4}


def test_a_frozen_rate_stays(study, folder, finish, tuned):
    before = freeze(study, folder)
    kept = folder.chosen_file.read_bytes()
    for run in tuning_runs(study):
        finish(run, 0.9 if run.learning_rate == 1e-4 else 0.1)
    assert freeze(study, folder) == before
    assert folder.chosen_file.read_bytes() == kept


def test_no_rate_is_chosen_where_a_tuning_run_is_missing(study, folder, finish, tuned):
    lost = next(run for run in tuning_runs(study) if run.cell == ("grpo", "u8"))
    finish(lost, 0.0, exit_code=1, error="out of memory")
    outcomes = [outcome_of(study, folder, run) for run in tuning_runs(study)]
    assert {(c["method"], c["updates"]) for c in choose(study, outcomes)} == set(RATES) - {("grpo", "u8")}
    assert ("grpo", "u8") not in freeze(study, folder)
    finish(lost, 0.2)
    assert freeze(study, folder) == RATES


def test_a_run_that_left_too_few_validations_has_failed(study, folder, finish):
    run = tuning_runs(study)[0]
    finish(run, 0.5)
    folder.run(run.name).metrics_file.write_text('{"step": 0, "actor/entropy": 0.1}\n')
    outcome = outcome_of(study, folder, run)
    assert outcome.state == "failed"
    assert "0 trained values of val/accuracy" in outcome.error


def test_means_and_differences_over_seeds(study, folder, finished):
    results = write_findings(study, folder)
    cell = next(c for c in results["cells"] if (c["method"], c["updates"]) == ("gmpo", "u2"))
    assert cell["quantities"]["score"]["values"] == list(SCORES["gmpo"])
    difference = next(d for d in results["differences"] if d["updates"] == "u2")
    gains = np.subtract(SCORES["gmpo"], SCORES["grpo"])
    expected = mean_over_seeds(gains)
    found = difference["quantities"]["score"]
    assert [found[k] for k in ("value", "low", "high")] == pytest.approx(
        [expected.value, expected.low, expected.high]
    )
    assert cell["quantities"]["ln_ratio_max"]["value"] == pytest.approx(np.log(3.5))
    smallest = next(q for q in QUANTITIES if q.key == "ln_ratio_min")
    assert smallest.of([{"step": 1, "actor/ratio_min": 0.0}]) < -100
    assert difference["quantities"]["grad_norm_max"]["values"] == [0, 0, 0]


def answer(question: int, k: int, right: bool) -> SampleRecord:
    words = {"prompt": "?", "images": [], "response": "!", "finished": True, "gold": "1", "extracted": "1"}
    rest = {"gold_type": "number", "outcome": "equal", "reward": {"overall": 0.1, "accuracy": float(right)}}
    return SampleRecord(
        id=f"q{question}", group=f"q{question}", k=k, correct=right, seed=0, length=3, **words, **rest
    )


def test_a_reward_without_accuracy_is_held_out_by_its_score_in_its_own_unit(write_study, finisher, tmp_path):
    path = write_study(test_files="test.parquet", learning_rates=[1e-3], tuning_seeds=[1])
    study, text = read_study(path), path.read_text()
    folder = open_study(tmp_path / "scored", text, make_plan(study, text))
    finish = finisher(folder)
    for run in tuning_runs(study):
        finish(run, 62.5, **{"reward/overall": 60.0})
    chosen = freeze(study, folder)
    for run in fresh_runs(study, chosen):
        finish(run, 62.5, **{"reward/overall": 60.0})
    for run in fresh_runs(study, chosen, "test"):
        rows = [replace(answer(q, 0, right=True), reward={"overall": 25.0 * q}) for q in range(4)]
        folder.run(run.name).create().write_rollouts(2, rows, "validation")
        folder.write_ending(run.name, {"exit": 0, "error": None, "seconds": 1.0, "versions": {}})
    cell = write_findings(study, folder)["cells"][0]
    assert cell["quantities"]["test"]["value"] == 37.5
    page = folder.page_file.read_text()
    assert "62.5" in page
    assert "37.5" in page
    assert not any(f"{value}%" in page for value in ("62.5", "37.5", "6250.0", "3750.0"))


def test_held_out_rows_are_compared_over_seeds_and_questions(write_study, finisher, tmp_path):
    path = write_study(test_files="test.parquet", learning_rates=[1e-3], tuning_seeds=[1])
    study, text = read_study(path), path.read_text()
    folder = open_study(tmp_path / "held_out", text, make_plan(study, text))
    finish = finisher(folder)
    for run in tuning_runs(study):
        finish(run, 0.3)
    chosen = freeze(study, folder)
    for run in fresh_runs(study, chosen):
        finish(run, 0.3)
    for run in fresh_runs(study, chosen, "test"):
        folder.run(run.name).create()
        easy = 3 if run.method == "gmpo" else 2  # of 8 questions, all 4 answers right; half of the last one's
        rows = [answer(q, k, q < easy or (q == 7 and k < 2)) for q in range(8) for k in range(4)]
        folder.run(run.name).write_rollouts(2, rows, "validation")
        folder.write_ending(run.name, {"exit": 0, "error": None, "seconds": 1.0, "versions": {}})
    results = write_findings(study, folder)
    tests = {(c["method"], c["updates"]): c["quantities"]["test"]["value"] for c in results["cells"]}
    assert tests == {(m, u): (easy + 0.5) / 8 for m, easy in (("grpo", 2), ("gmpo", 3)) for u in ("u2", "u8")}
    both = results["differences"][0]["test_two_level"]
    assert both["value"] == pytest.approx(1 / 8)
    assert both["low"] == 0 < both["high"] < 1
    page = folder.page_file.read_text()
    assert "bootstrap over seeds and questions" in page
    assert "12 of 12</b> held-out runs" in page

    lost = fresh_runs(study, chosen, "test")[0]
    folder.write_ending(lost.name, {"exit": 2, "error": "no such file", "seconds": 1.0, "versions": {}})
    results = write_findings(study, folder)
    assert [r["phase"] for r in results["runs"] if r["state"] == "failed"] == ["test"]
    assert "test/grpo/u2/seed11" in folder.page_file.read_text()
    assert "test" not in results["cells"][0]["quantities"]  # one of three seeds is missing


def test_results_hold_no_times_and_no_paths(study, folder, finished, tmp_path):
    write_findings(study, folder)
    text = folder.results_file.read_text()
    assert str(tmp_path) not in text
    assert "seconds" not in text


def test_a_failed_run_is_on_the_page_and_not_in_the_means(study, folder, finish, finished):
    lost = next(run for run in fresh_runs(study, RATES) if run.cell == ("gmpo", "u8") and run.seed == 12)
    finish(lost, 0.0, exit_code=-9, error="killed <script>alert(1)</script>")
    results = write_findings(study, folder)
    rows = [row for row in results["runs"] if row["state"] == "failed"]
    assert [(row["method"], row["updates"], row["seed"]) for row in rows] == [("gmpo", "u8", 12)]
    cell = next(c for c in results["cells"] if (c["method"], c["updates"]) == ("gmpo", "u8"))
    assert cell["seeds"] == [11, 13]
    page = folder.page_file.read_text()
    assert "final/gmpo/u8/seed12" in page
    assert "ended by SIGKILL" in page
    assert "<script>alert" not in page
    assert "11 of 12" in page


def test_the_page_draws_a_band_per_method_and_leaves_out_what_was_not_measured(study, folder, finished):
    write_findings(study, folder)
    write_figure(study, folder, collect(study, folder)[0])
    page = folder.page_file.read_text()
    assert page.count('class="area band s0"') == page.count('class="area band s1"') == 2 * 6
    assert page.count("<figure") == 2 * 5
    assert folder.figure_file.read_bytes().startswith(b"\x89PNG")
    for run in fresh_runs(study, RATES):
        file = folder.run(run.name).metrics_file
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text(
            "".join(json.dumps({k: v for k, v in r.items() if "kl_to" not in k}) + "\n" for r in rows)
        )
    results = write_findings(study, folder)
    assert folder.page_file.read_text().count("<figure") == 2 * 4
    assert all("kl_to_start" not in cell["quantities"] for cell in results["cells"])


def test_the_page_of_a_study_that_has_not_begun(study, folder):
    write_findings(study, folder)
    write_figure(study, folder, collect(study, folder)[0])
    page = folder.page_file.read_text()
    assert "0 of 24" in page
    assert "no fresh run has finished" in page
    assert not folder.figure_file.exists()


def test_a_single_rate_needs_no_tuning(write_study, finisher, tmp_path):
    path = write_study(learning_rates=[1e-3], tuning_seeds=[])
    study, text = read_study(path), path.read_text()
    folder = open_study(tmp_path / "untuned", text, make_plan(study, text))
    assert folder.plan()["runs"] == {"tune": 0, "final": 12, "test": 0}
    chosen = freeze(study, folder)
    assert set(chosen.values()) == {1e-3}
    for run in fresh_runs(study, chosen):
        finisher(folder)(run, 0.3)
    results = write_findings(study, folder)
    assert [row["phase"] for row in results["runs"]] == ["final"] * 12
    assert results["cells"][0]["quantities"]["score"]["value"] == pytest.approx(0.3)
    assert "names one rate for all runs, 0.001" in folder.page_file.read_text()


def test_a_games_held_out_score_counts_each_episode_once(write_study, finisher, tmp_path):
    path = write_study(test_files="test.parquet", learning_rates=[1e-3], tuning_seeds=[])
    study, text = read_study(path), path.read_text()
    folder = open_study(tmp_path / "games", text, make_plan(study, text))
    chosen = freeze(study, folder)
    for run in fresh_runs(study, chosen):
        finisher(folder)(run, 0.3)
    for run in fresh_runs(
        study, chosen, "test"
    ):  # of each game one episode is won in 1 turn, one is lost in 5
        rows = [
            replace(answer(game, k, k == 0), turn={"episode": k, "number": number})
            for game in range(4)
            for k in range(2)
            for number in range(1, 6 if k else 2)
        ]
        folder.run(run.name).create().write_rollouts(2, rows, "validation")
        folder.write_ending(run.name, {"exit": 0, "error": None, "seconds": 1.0, "versions": {}})
    cell = write_findings(study, folder)["cells"][0]
    assert cell["quantities"]["test"]["value"] == pytest.approx(0.5)
