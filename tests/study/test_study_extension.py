"""Grids of rates that grow: when, for whom, how far, and the same after a stop anywhere."""

import pytest
from invented_study import command

from gmpo_vl.runs import StudyFolder
from gmpo_vl.study.declaration import StudyError, read_study
from gmpo_vl.study.grid import fresh_runs, make_plan, tuning_runs
from gmpo_vl.study.outcomes import beyond, freeze, grids
from gmpo_vl.study.phases import open_study, run_study

GROWING = {"learning_rates": [1e-3, 2e-3, 4e-3], "updates": {"u2": ["worker.actor.global_batch_size=4"]}}


def opened(path, out) -> tuple:
    study, text = read_study(path), path.read_text()
    return study, open_study(out, text, make_plan(study, text))


def test_the_next_rates_are_as_far_as_the_edge_from_its_neighbour():
    inside, low, high = ({1e-3: a, 2e-3: b, 6e-3: c} for a, b, c in ((0, 1, 0), (1, 0, 0), (0, 0, 1)))
    grid = (2e-3, 6e-3, 1e-3)
    assert beyond(grid, [inside, inside]) == ()
    assert beyond(grid, [inside, low]) == (5e-4,)
    assert beyond(grid, [high, low]) == (5e-4, 1.8e-2)


@pytest.mark.parametrize(
    ("extend", "rates", "at_edge"), [(0, 3, True), (1, 4, True), (2, 5, False), (9, 5, False)]
)
def test_the_grid_grows_for_all_methods_until_the_best_rate_is_inside(
    write_study, tmp_path, extend, rates, at_edge
):
    """grpo's best rate is 8e-3, one beyond the grid: 1.6e-2 must be tried to see it."""
    study, folder = opened(write_study(**GROWING, extend=extend), tmp_path / "out")
    results = run_study(study, folder, 4, lambda line: None, command)
    tuned = [run for run in results["runs"] if run["phase"] == "tune"]
    for method in study.methods:
        assert len({r["learning_rate"] for r in tuned if r["method"] == method}) == rates
    assert len(tuned) == 2 * 2 * rates
    best = min(8e-3, [4e-3, 8e-3, 1.6e-2][min(extend, 2)])
    assert {c["method"]: c["learning_rate"] for c in results["chosen"]} == {"grpo": best, "gmpo": 2e-3}
    assert results["chosen"][0]["at_edge"] == at_edge


class Stopped(Exception):
    pass


def test_a_stop_anywhere_gives_the_same_results(write_study, tmp_path):
    """Of 12 tuning runs, 4 and 4 of two extensions, 6 fresh ones: one study that is stopped in each."""
    path = write_study(**GROWING, extend=3)
    study, whole = opened(path, tmp_path / "whole")
    said: list[str] = []
    run_study(study, whole, 1, said.append, command)
    assert len(said) == 12 + 4 + 4 + 6

    study, folder = opened(path, tmp_path / "stopped")
    ended: list[str] = []
    for stop_after in (5, 14, 18, 22):

        def stop(line: str, stop_after: int = stop_after) -> None:
            ended.append(line)
            if len(ended) == stop_after:
                raise Stopped

        with pytest.raises(Stopped):
            run_study(study, folder, 1, stop, command)
        assert (folder.chosen() is None) == (stop_after < 20)
    run_study(study, folder, 1, ended.append, command)
    assert len(ended) == len(said)
    assert folder.results_file.read_bytes() == whole.results_file.read_bytes()
    assert folder.chosen_file.read_bytes() == whole.chosen_file.read_bytes()


def test_no_rate_of_a_setting_is_chosen_while_one_method_waits_for_a_run(write_study, finisher, tmp_path):
    study, folder = opened(write_study(**{**GROWING, "extend": 1}), tmp_path / "out")
    finish = finisher(folder)
    *runs, last = tuning_runs(study)
    for run in runs:
        finish(run, 0.5 if run.learning_rate == 2e-3 else 0.1)
    finish(last, 0.1, exit_code=1, error="out of memory")
    assert grids(study, folder) == {"u2": (1e-3, 2e-3, 4e-3)}
    assert freeze(study, folder) == {}
    finish(last, 0.1)
    assert freeze(study, folder) == {("grpo", "u2"): 2e-3, ("gmpo", "u2"): 2e-3}
    assert len(fresh_runs(study, freeze(study, folder))) == 6


def test_the_page_shows_the_rates_that_were_added(write_study, tmp_path):
    study, folder = opened(write_study(**GROWING, extend=2), tmp_path / "out")
    run_study(study, folder, 4, lambda line: None, command)
    page = StudyFolder(tmp_path / "out").page_file.read_text()
    assert "<th>0.016</th>" in page
    assert "<b>20 of 20</b> tuning runs finished" in page
    assert "one rate more beyond that edge" in page


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"extend": -1}, "extend is -1"), ({"extend": 1, "learning_rates": [1e-3]}, "needs two")],
)
def test_extensions_that_cannot_be_are_refused(write_study, changes, sentence):
    with pytest.raises(StudyError, match=sentence):
        read_study(write_study(**changes))
