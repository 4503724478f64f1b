"""A study's file: what it declares is what runs, and what cannot be compared is refused in time."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from study.conftest import BASE

from gmpo_vl.cli import main
from gmpo_vl.config import load_config
from gmpo_vl.config.load import save_as_written
from gmpo_vl.config.schema import all_keys, value_of
from gmpo_vl.study.declaration import StudyError, read_study
from gmpo_vl.study.grid import config_of, fresh_runs, make_plan, tuning_runs
from gmpo_vl.study.phases import arguments, open_study, refuse_another_base, run_study

STUDIES = sorted((Path(__file__).parents[2] / "configs/study").glob("*.yaml"))


def test_every_method_is_tuned_with_the_same_runs(study):
    runs = tuning_runs(study)
    assert len({run.name for run in runs}) == len(runs) == 2 * 2 * 3 * 2
    assert set(Counter(run.cell for run in runs).values()) == {6}
    of_method = {
        m: {(r.updates, r.learning_rate, r.seed) for r in runs if r.method == m} for m in study.methods
    }
    assert of_method["grpo"] == of_method["gmpo"]


def test_a_run_differs_from_its_base_in_what_the_file_names(study):
    run = tuning_runs(study)[-1]
    config, base = config_of(study, run), load_config(study.base, study.updates[run.updates])
    assert value_of(config, "worker.actor.loss_type") == run.method == "gmpo"
    assert value_of(config, "worker.actor.optim.lr") == run.learning_rate == 1e-3
    assert value_of(config, "worker.actor.global_batch_size") == 1
    assert value_of(config, "data.seed") == value_of(config, "worker.rollout.seed") == run.seed == 2
    changed = {key for key in all_keys() if value_of(config, key) != value_of(base, key)}
    assert changed == {"worker.actor.optim.lr", "data.seed", "worker.rollout.seed"}


def test_fresh_runs_have_the_chosen_rates_and_only_them(study):
    runs = fresh_runs(study, {("grpo", "u2"): 1e-4, ("gmpo", "u8"): 1e-3})
    assert {(*run.cell, run.learning_rate) for run in runs} == {("grpo", "u2", 1e-4), ("gmpo", "u8", 1e-3)}
    assert [run.seed for run in runs] == [11, 11, 12, 12, 13, 13]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learning_rate": [1]}, r"there is no key learning_rate; did you mean learning_rates\?"),
        ({"metrc": "val/overall"}, r"there is no key metrc; did you mean metric\?"),
        (
            {"metric": "val/response_length", "test_files": "test.parquet"},
            "whose scores have no response_length: name a part of the reward, or leave test_files out",
        ),
        ({"metric": "val/truncated", "test_files": "test.parquet"}, "whose scores have no truncated"),
        ({"fresh_seeds": [2, 12, 13]}, "seeds \\[2\\] are tuning seeds and fresh seeds"),
        ({"fresh_seeds": [11, 12]}, "needs 3"),
        ({"fresh_seeds": [11, 11, 12]}, "different whole numbers"),
        ({"tuning_seeds": []}, "tuning_seeds is empty, but learning_rates has 3 to choose from"),
        ({"tuning_seeds": None}, "tuning_seeds is missing"),
        ({"learning_rates": [1e-3, 1e-3]}, "different numbers above 0"),
        ({"learning_rates": ["fast"]}, "different numbers above 0"),
        ({"learning_rates": [1e-3, float("nan")]}, "different numbers above 0"),
        ({"metric": "reward/accuracy"}, "tuned on validation"),
        ({"last": 0}, "last is 0"),
        ({"methods": {"a/b": []}}, "names folders"),
        ({"methods": {"gmpo": "worker.actor.loss_type=gmpo"}}, "must be a list of a.b=c"),
        (
            {"overrides": ["worker.actor.optim.lr=1"]},
            "overrides sets worker.actor.optim.lr, which the study itself",
        ),
        (
            {"methods": {"gmpo": ["worker.actor.global_batch_size=2"]}},
            "updates.u2 sets worker.actor.global_batch_size, which methods.gmpo sets",
        ),
        ({"name": "../elsewhere"}, "names a folder"),
    ],
)
def test_what_cannot_be_compared_is_refused(write_study, changes, sentence):
    with pytest.raises(StudyError, match=sentence):
        read_study(write_study(**changes))


@pytest.mark.parametrize(
    ("changes", "base", "sentence"),
    [
        (
            {"methods": {"gmpo": ["worker.actor.los_type=gmpo"]}},
            None,
            "tune/gmpo/u2/lr0.0001/seed1 cannot run.*loss_type",
        ),
        ({"overrides": ["trainer.val_freq=-1"]}, None, "set data.val_files and trainer.val_freq"),
        (
            {"metric": "val/acc"},
            None,
            r"seed1 would leave no score.*'acc'; did you mean accuracy\? \(parts: overall, accuracy, ",
        ),
        ({"base": "no_such.yaml"}, None, "no_such.yaml"),
        ({"test_files": "./validation.parquet"}, None, "which is data.val_files too"),
        ({"test_files": "train.parquet"}, None, "which is data.train_files too"),
    ],
)
def test_runs_that_would_leave_no_score_are_refused(write_study, changes, base, sentence):
    path = write_study(**changes)
    with pytest.raises(StudyError, match=f"(?s){sentence}"):
        make_plan(read_study(path), path.read_text())


OWN_REWARD = """
def score(reward_inputs):
    return [{"overall": float(len(one["response"])), "brief": 1.0} for one in reward_inputs]
"""


def test_a_metric_that_a_file_s_scores_do_not_have_is_told(write_study, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN_REWARD)
    rows = [{"problem": "What is 1 + 1?", "answer": "2", "images": []}]
    for name in ("train", "validation"):
        pq.write_table(pa.Table.from_pylist(rows), f"{name}.parquet")
    reward = ["worker.reward.reward_function=own.py:score"]
    for metric, told in (("val/breif", True), ("val/brief", False), ("val/truncated", False)):
        path = write_study(metric=metric, overrides=reward)
        assert main(["study", str(path), "--dry-run"]) == 0
        said = "WARNING: metric val/breif: no validation by the reward own.py:score has a part 'breif'; did"
        assert (said in capsys.readouterr().out) is told


def test_another_grid_in_the_same_folder_is_refused(study, write_study, folder):
    text = write_study().read_text()
    open_study(folder.folder, text, make_plan(study, text))
    path = write_study(learning_rates=[1e-4, 3e-4])
    with pytest.raises(StudyError, match="whose file was another"):
        open_study(folder.folder, path.read_text(), make_plan(read_study(path), path.read_text()))
    path = write_study(base=(path.parent / "base.yaml").read_text().replace("n: 4", "n: 8"))
    with pytest.raises(StudyError, match="whose base configuration was another"):
        open_study(folder.folder, path.read_text(), make_plan(read_study(path), path.read_text()))


def test_a_study_that_an_older_version_declared_goes_on(study, write_study, tmp_path):
    """Its hash held every key that there was then: no later version can compute it."""
    text = write_study().read_text()
    plan = make_plan(study, text)
    open_study(tmp_path / "older", text, plan | {"settings_sha256": "0123abcd"})
    open_study(tmp_path / "older", text, plan)


def test_dry_run_counts_and_writes_nothing(write_study, tmp_path, capsys):
    path = write_study(test_files="test.parquet")
    assert main(["study", str(path), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "24 runs: 6 for each of 4 pairs" in said
    assert "u2 (2), u8 (8) per rollout batch of 8 prompts x 4" in said
    assert "12 runs: seeds 11, 12, 13" in said
    assert "12 of those models asked test.parquet" in said
    assert not (tmp_path / "out").exists()


def test_dry_run_says_the_rules_and_whether_the_folder_would_be_refused(write_study, folder, capsys):
    arguments = ["study", str(write_study()), "--out", str(folder.folder), "--dry-run"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "the study has begun there" in said
    assert not any(f"\n{name} " in said for name in ("extend", "kind", "margin", "detectable", "expect"))

    verdicts = {"kind": "primary", "margin": 0.02, "assumed_deviation": 0.05, "test_files": "test.parquet"}
    write_study(**verdicts, extend=2, expect={"test": "higher", "entropy": "lower"})
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "whose file was another" in said.err
    arguments[3] = f"{folder.folder}_2"
    assert main(arguments) == 0
    said = capsys.readouterr()
    for name, value in {
        "extend": "2 more rates at most",
        "kind": "primary",
        "margin": "0.02",
        "deviation": "0.05 between seeds",
        "detectable": "a true held-out difference of 0.15",
        "expect": "against grpo: test higher, entropy lower",
    }.items():
        assert f"\n{name:<12}{value}" in said.out


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_shipped_studies_can_be_planned(path):
    study = read_study(path)
    assert make_plan(study, path.read_text())["study"]["base"] == Path(study.base).name


def test_a_copy_of_the_validation_rows_is_not_held_out(write_study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("validation", "renamed", "others"):
        (tmp_path / f"{name}.parquet").write_bytes(b"other rows" if name == "others" else b"the rows..")
    path = write_study(test_files="renamed.parquet")
    with pytest.raises(StudyError, match=r"which is data\.val_files too, or a copy"):
        make_plan(read_study(path), path.read_text())
    path = write_study(test_files="others.parquet")
    make_plan(read_study(path), path.read_text())


@pytest.mark.parametrize(("quantity", "key"), [("ln_grad_variance", "grad_noise"), ("accuracy_gap", "look")])
def test_what_is_expected_must_be_measured(write_study, quantity, key):
    verdicts = {"kind": "primary", "margin": 0.02, "assumed_deviation": 0.02, "test_files": "test.parquet"}
    verdicts["updates"] = {"u2": ["worker.actor.global_batch_size=4"]}
    path = write_study(**verdicts, expect={quantity: "lower"})
    with pytest.raises(StudyError, match=f"expect names {quantity}, which trainer.{key}_freq measures"):
        make_plan(read_study(path), path.read_text())
    path = write_study(**verdicts, expect={quantity: "lower"}, overrides=[f"trainer.{key}_freq=1"])
    make_plan(read_study(path), path.read_text())


def test_held_out_answers_are_scored_by_the_first_method_s_reward(write_study):
    other = ["worker.reward.reward_function=math", "worker.reward.reward_function_kwargs.format_weight=0.5"]
    path = write_study(methods={"gmpo": [], "paid": other}, test_files="test.parquet")
    study = read_study(path)
    make_plan(study, path.read_text())
    runs = {run.method: run for run in tuning_runs(study)}
    rewards = {method: config_of(study, run).worker.reward for method, run in runs.items()}
    assert rewards["paid"].reward_function_kwargs == {"format_weight": 0.5}
    assert config_of(study, replace(runs["paid"], phase="test")).worker.reward == rewards["gmpo"]

    path = write_study(
        methods={"gmpo": [], "paid": ["worker={reward: {reward_function: math}}"]}, test_files="t"
    )
    with pytest.raises(StudyError, match=r"methods\.paid would score held-out answers by another reward"):
        make_plan(read_study(path), path.read_text())


def test_runs_read_the_base_as_it_was_when_the_study_began(study, folder):
    run = tuning_runs(study)[0]
    save_as_written(study.base, folder.base_file)
    before = config_of(study, run)
    base_file = Path(study.base)
    base_file.write_text(base_file.read_text().replace("n: 4", "n: 8"))
    _, base, *overrides = arguments(study, folder, run)
    assert config_of(study, run).worker.rollout.n == 8
    assert load_config(base, overrides[:-2]) == before


def test_runs_of_another_base_than_the_declared_one_are_refused(write_study, tmp_path):
    """As an earlier version saved it: without the entries that only a lower base sets."""
    own = "base: lower.yaml\nworker: {rollout: {val_override_config: {temperature: 1.0}}}\n"
    path = write_study(base=own, fresh_seeds=[11, 12, 13])
    (tmp_path / "lower.yaml").write_text(BASE.replace("{n: 4}", "{n: 4, val_override_config: {n: 2}}"))
    study, text = read_study(path), path.read_text()
    folder = open_study(tmp_path / "out", text, make_plan(study, text))
    save_as_written(study.base, folder.base_file)
    refuse_another_base(study, folder)
    folder.base_file.write_text(folder.base_file.read_text().replace("  'n': 2\n", ""))
    with pytest.raises(
        StudyError, match=r"makes worker\.rollout\.val_override_config \{'temperature': 1\.0\}"
    ):
        run_study(study, folder, 1, print, main)
    assert not folder.run("tune").folder.exists()
