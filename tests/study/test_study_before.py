"""What a study's runs would refuse is refused before the first of them, and so is what nobody could judge."""

import re
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gmpo_vl.cli import main
from gmpo_vl.study.declaration import StudyError, read_study
from gmpo_vl.study.grid import config_of, make_plan, tuning_runs
from gmpo_vl.study.rows import check_rows, missing_rows

MATH = "worker.reward.reward_function=math"
GDPO = ["algorithm.adv_estimator=gdpo", MATH, "algorithm.reward_weights={accuracy: 1.0, format: 0.5}"]
FILTER = [MATH, "algorithm.online_filtering=true", "algorithm.filter_key=format"]
R1V = ["worker.reward.reward_function=r1v", "data.format_prompt=r1v"]
BOXED = ["data.format_prompt=boxed"]


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Three splits of sums, where the study's paths find them."""
    monkeypatch.chdir(tmp_path)
    for start, name in enumerate(("train", "validation", "test")):
        sums = [
            {"problem": f"What is {start} + {i}?", "answer": str(start + i), "images": []} for i in range(9)
        ]
        pq.write_table(pa.Table.from_pylist(sums), f"{name}.parquet")


def held_out(study, method: str):
    run = next(run for run in tuning_runs(study) if run.method == method)
    return config_of(study, replace(run, phase="test"))


@pytest.mark.parametrize(
    ("first", "other"), [(BOXED, GDPO), (BOXED, FILTER), (GDPO, BOXED), (FILTER, GDPO), (GDPO, FILTER)]
)
def test_methods_of_other_rewards_are_judged_by_the_first_ones(write_study, first, other):
    path = write_study(methods={"one": first, "two": other}, test_files="test.parquet")
    study = read_study(path)
    make_plan(study, path.read_text())
    judges = [held_out(study, method) for method in ("one", "two")]
    assert judges[0].algorithm == judges[1].algorithm
    assert judges[0].worker.reward == judges[1].worker.reward
    assert all(judge.trainer.val_only and judge.data.val_files == "test.parquet" for judge in judges)
    run = tuning_runs(study)[-1]
    assert config_of(study, run).algorithm.adv_estimator == ("gdpo" if other == GDPO else "grpo")


def test_who_asks_for_the_answer_elsewhere_than_the_judge_reads_it_is_refused(write_study, rows):
    path = write_study(methods={"gmpo": BOXED, "r1v": R1V}, test_files="test.parquet")
    study = read_study(path)
    make_plan(study, path.read_text())
    sentence = "test/r1v/u2/seed1 cannot run: data.train_files: the prompt asks for the answer in <answer>"
    with pytest.raises(StudyError, match=sentence):
        check_rows(study)
    assert main(["study", str(path), "--dry-run"]) == 2
    assert check_rows(read_study(write_study(methods={"gmpo": BOXED, "r1v": R1V}))) == []  # each by its own


def test_a_judge_that_overrides_cannot_reach_is_refused(write_study):
    nested = ["algorithm={adv_estimator: gdpo, reward_weights: {accuracy: 1.0, format: 0.5}}", MATH]
    path = write_study(methods={"gmpo": [], "gdpo": nested}, test_files="test.parquet")
    with pytest.raises(StudyError, match=r"test/gdpo/u2/.*no score has a part 'format'"):
        make_plan(read_study(path), path.read_text())


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["algorithm.reward_weights={accuracy: 1.0, format: 0.5}"],
            "reward_weights: no score has a part 'format'",
        ),
        (
            [MATH, "algorithm.online_filtering=true", "algorithm.filter_key=fomat"],
            r"filter_key: no score has a part 'fomat'; did you mean format\?",
        ),
    ],
)
def test_parts_that_the_reward_does_not_give_are_refused(write_study, overrides, sentence):
    path = write_study(overrides=overrides)
    with pytest.raises(StudyError, match=f"tune/grpo/u2/lr0.0001/seed1 cannot run: .*{sentence}"):
        make_plan(read_study(path), path.read_text())


def test_games_that_are_filtered_by_accuracy_need_no_reward(write_study):
    games = [
        "environment.name=gridworld",
        "worker.reward.reward_function=null",
        "trainer.kl_to_start_freq=-1",
    ]
    path = write_study(overrides=[*games, "algorithm.online_filtering=true"])
    assert make_plan(read_study(path), path.read_text())["runs"]["tune"] == 24


def test_parts_of_an_own_reward_are_doubted(write_study, rows, tmp_path, capsys):
    (tmp_path / "own.py").write_text(
        "def score(reward_inputs): return [{'overall': 1.0} for _ in reward_inputs]"
    )
    own = ["worker.reward.reward_function=own.py:score", "algorithm.reward_weights={brief: 1.0}"]
    assert main(["study", str(write_study(overrides=own)), "--dry-run"]) == 0
    assert "WARNING: algorithm.reward_weights: no score has a part 'brief'" in capsys.readouterr().out


def test_two_methods_with_the_same_settings_are_refused(write_study):
    path = write_study(methods={"gmpo": [], "again": ["worker.actor.loss_type=gmpo"]})
    with pytest.raises(StudyError, match=r"methods\.gmpo and methods\.again have the same settings"):
        make_plan(read_study(path), path.read_text())


def test_files_that_are_not_there_are_told_and_stop_the_start(write_study, rows, tmp_path, capsys):
    of_method = {"gmpo": ["data.val_files=validatoin.parquet"], "grpo": ["worker.actor.loss_type=grpo"]}
    path = write_study(methods=of_method, test_files="tset.parquet")
    assert main(["study", str(path), "--dry-run"]) == 0
    said = capsys.readouterr().out
    for key, name in (("test_files", "tset"), ("data.val_files", "validatoin")):
        assert re.search(rf"WARNING: {key}: {name}\.parquet: no such file", said)
    assert main(["study", str(path), "--out", "out"]) == 2
    assert "tset.parquet: no such file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert missing_rows(read_study(write_study(test_files="test.parquet"))) == []


def test_validation_on_the_training_rows_is_told(write_study, rows, capsys):
    path = write_study(overrides=["data.val_files=train.parquet", *BOXED])
    assert main(["study", str(path), "--dry-run"]) == 0
    assert (
        "WARNING: data.val_files is train.parquet, which is data.train_files too" in capsys.readouterr().out
    )


def test_a_study_and_a_run_are_told_apart(write_study, tmp_path, capsys):
    path = write_study()
    assert main(["train", str(path), "--dry-run"]) == 2
    assert (
        f"is a study, not a run's configuration: `gmpo-vl study {path}` reads it" in capsys.readouterr().err
    )
    assert main(["study", str(tmp_path / "base.yaml"), "--dry-run"]) == 2
    assert "is a run's configuration, not a study: `gmpo-vl train" in capsys.readouterr().err
