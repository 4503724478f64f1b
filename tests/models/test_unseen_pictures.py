"""Where one file is why no picture can be shown, that file is named once, and not every row."""

import json
import shutil

import pytest
from tiny_families import save_tiny_text
from tiny_runs import BASE

from gmpo_vl.cli import main
from gmpo_vl.data.rows import Columns
from gmpo_vl.data.writing import write_parquet
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.prompts import PromptSettings, load_prompts


@pytest.fixture
def blind(tmp_path, tiny_folder):
    """A vision-language model whose chat template leaves pictures out."""
    folder = shutil.copytree(tiny_folder, tmp_path / "blind")
    processor = load_processor(folder)
    token = processor.tokenizer.convert_ids_to_tokens(processor.image_token_id)
    (folder / "chat_template.jinja").write_text(processor.chat_template.replace(token, ""))
    return folder


@pytest.fixture(params=["text model", "template"])
def model(request, tmp_path, blind):
    """(folder, what is said of it)"""
    if request.param == "template":
        return blind, f"the chat template of {blind}"
    folder = save_tiny_text(tmp_path / "text")
    return folder, f"the model in {folder} takes text alone"


@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
def test_a_run_names_the_file(on_bad_row, model, diagrams):
    folder, said = model
    settings = PromptSettings(Columns(), on_bad_row=on_bad_row)
    with pytest.raises(ValueError, match=said) as caught:
        load_prompts(str(diagrams / "train.parquet"), settings, load_processor(folder))
    assert "parquet" not in str(caught.value)


def test_rows_of_text_go_on_where_bad_rows_are_left_out(model, diagrams, tmp_path, png):
    rows = [{"images": [], "problem": "What is 1 + 1?", "answer": "2"}]
    rows += [{"images": [png], "problem": "<image>What is x?", "answer": "3"}]
    write_parquet(tmp_path / "both.parquet", rows)
    settings = PromptSettings(Columns(), on_bad_row="skip")
    prompts = load_prompts(str(tmp_path / "both.parquet"), settings, load_processor(model[0]))
    assert [example.problem for example in prompts.examples] == ["What is 1 + 1?"]


def test_data_check_does_not_ask_to_mend_the_rows(model, diagrams, tmp_path, overrides, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(BASE)
    folder, said = model
    of = [str(tmp_path / "run.yaml"), *overrides, f"worker.actor.model.model_path={folder}"]
    assert main(["data", "check", *of, "--out", str(tmp_path / "check")]) == 1
    lines = [json.loads(line) for line in (tmp_path / "check/rows.jsonl").read_text().splitlines()]
    errors = [line for line in lines if line["level"] == "error"]
    assert {line["reason"] for line in errors} == {"pictures_unseen"}
    assert all(said in line["detail"] for line in errors)
