"""n samples per question: files, controls, and numbers that can be counted by hand."""

import json

import numpy as np
import pytest

from gmpo_vl.data.rows import Columns
from gmpo_vl.evaluation.answering import Conditions, evaluate
from gmpo_vl.evaluation.statistics import mean_over_questions, paired_difference
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.prompts import PromptSettings, load_prompts
from gmpo_vl.models.tiny import save_tiny
from gmpo_vl.samples import SampleRecord
from gmpo_vl.storage.files import read_jsonl
from gmpo_vl.tasks.diagrams.data import export
from gmpo_vl.types import Sampling


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    export(folder, {"test": 6})
    model_folder = save_tiny(folder / "tiny")
    processor = load_processor(model_folder)
    prompts = load_prompts(str(folder / "test.parquet"), PromptSettings(Columns()), processor)
    return load_model(model_folder).eval(), prompts


def test_results_and_samples_are_written_and_agree(setting, tmp_path):
    result = evaluate(*setting, Conditions(Sampling(n=3, max_tokens=8)), folder=tmp_path)
    records = [SampleRecord(**row) for row in read_jsonl(tmp_path / "samples.jsonl")]
    assert records == result.records
    assert len(records) == 6 * 3
    assert all((tmp_path / "images" / f"{digest}.webp").exists() for r in records for digest in r.images)
    summary = json.loads((tmp_path / "results.json").read_text())
    assert summary["questions"] == 6
    assert summary["n"] == 3
    assert summary["pass@1"] == np.mean([r.correct for r in records])
    assert summary["settings"]["sampling"]["temperature"] == 1.0
    assert records[0].meta["family"]


def test_the_same_seed_gives_the_same_samples_and_another_gives_others(setting):
    texts = [
        [r.response for r in evaluate(*setting, Conditions(Sampling(n=2, max_tokens=8, seed=seed))).records]
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_controls_change_the_picture_and_nothing_else(setting, tmp_path):
    greedy = Sampling(n=1, max_tokens=8, temperature=0.0)
    own, blank, wrong = (
        evaluate(*setting, Conditions(greedy, pictures=kind), folder=tmp_path / kind)
        for kind in ("as_is", "blank", "wrong")
    )
    assert own.questions == blank.questions == wrong.questions
    assert [r.prompt for r in own.records] == [r.prompt for r in wrong.records]
    assert [r.gold for r in own.records] == [r.gold for r in wrong.records]
    stated = [
        json.loads((tmp_path / kind / "results.json").read_text())["settings"] for kind in ("as_is", "blank")
    ]
    assert stated[0] == {**stated[1], "pictures": "as_is"} != stated[1]


def test_nothing_to_average_and_unequal_sets_are_errors():
    with pytest.raises(ValueError, match="no questions"):
        mean_over_questions(np.array([]))
    with pytest.raises(ValueError, match="3 questions before, 2 after"):
        paired_difference(np.zeros(3), np.zeros(2))
