"""What is done with finished evaluations: graded again, compared, tabled, shown, turned into a column."""

import dataclasses
import json
import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from gmpo_vl.cli import build_parser
from gmpo_vl.cli.evaluate import with_default_command
from gmpo_vl.cli.result_words import comparison_in_words
from gmpo_vl.evaluation.backends import cut
from gmpo_vl.evaluation.comparison import Compared
from gmpo_vl.evaluation.grading import Grading, regrade
from gmpo_vl.evaluation.statistics import two_level_difference
from gmpo_vl.models.processing import load_processor
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.types import Example, Response

ROOT = Path(__file__).parents[2]
NAME = "small+data=test"


@pytest.fixture
def answered(whole, tmp_path):
    """Copies of a real evaluation in which a share of the answers is right, graded by nobody yet."""

    def make(name: str, share: float, seed: int = 0) -> Path:
        folder = EvaluationFolder(shutil.copytree(whole, tmp_path / name / NAME))
        rng = random.Random(f"{name}{seed}")
        records = []
        for record in folder.samples():
            said = record.gold if rng.random() < share else f"{rng.randint(500, 999)}"
            records.append(dataclasses.replace(record, response=f"<b>so</b> \\boxed{{{said}}}"))
        folder.write_samples(records)
        return folder.folder

    return make


def test_regrading_what_was_graded_changes_nothing(whole, content, gmpo_vl):
    before = content(whole)
    assert "0 verdicts changed" in gmpo_vl("eval", "regrade", whole)
    assert content(whole) == before


def test_regrading_is_counted_and_the_same_over_processes(answered, gmpo_vl, content):
    folder = answered("a", 0.5)
    said = gmpo_vl("eval", "regrade", folder)
    results = json.loads((folder / "results.json").read_text())
    records = list(EvaluationFolder(folder).samples())
    assert f"{sum(r.correct for r in records)} verdicts changed" in said
    assert re.search(rf"{len(records)} answers in [\d,.]+ s \([\d,]+ a second\)", said)
    assert 0.2 < results["pass@1"] < 0.8
    assert results["pass@1"] == pytest.approx(sum(r.correct for r in records) / len(records))
    many = records * 50
    grading = Grading("paper", "geometry3k")
    assert list(regrade(many, grading, processes=2)) == many


def test_compare_pairs_by_question_and_seed_and_warns_about_one_seed(answered, gmpo_vl):
    runs = {
        side: [answered(f"{side}{i}", share, i) for i in range(3)] for side, share in (("a", 0.3), ("b", 0.8))
    }
    gmpo_vl("eval", "regrade", *runs["a"], *runs["b"])
    one = gmpo_vl("eval", "compare", "--a", runs["a"][0], "--b", runs["b"][0])
    assert "two checkpoints, not two methods" in one
    assert "paired by question\n" in one
    several = gmpo_vl("eval", "compare", "--a", *runs["a"], "--b", *runs["b"])
    assert "paired by question and seed" in several
    assert re.search(r"takes \d+ seeds a side", several)
    gain = float(re.search(r"b - a: ([+-][\d.]+) points", several)[1])
    assert 25 < gain < 75


def test_a_folder_with_one_evaluation_names_it(answered, gmpo_vl, diagrams, tmp_path):
    a, b = answered("a", 0.3), answered("b", 0.8)
    gmpo_vl("eval", "regrade", a, b)
    compared = gmpo_vl("eval", "compare", "--a", a, "--b", b)
    assert gmpo_vl("eval", "compare", "--a", a.parent, "--b", b) == compared
    rows = ("--data", diagrams, "--out")
    assert gmpo_vl("data", "difficulty", a.parent, *rows, tmp_path / "rows.parquet")
    shutil.copytree(a, a.parent / "small+n=2")
    said = gmpo_vl("eval", "compare", "--a", a.parent, "--b", b, code=2)
    assert f"{a.parent} holds 2 evaluations; name one of them: {NAME}, small+n=2" in said
    said = gmpo_vl("data", "difficulty", a.parent, *rows, tmp_path / "more.parquet", code=2)
    assert "2 evaluations" in said
    assert "no finished evaluation" in gmpo_vl("eval", "compare", "--a", tmp_path, "--b", b, code=2)


def test_compare_says_where_questions_are_too_few():
    said = [
        comparison_in_words(
            Compared([str(i) for i in range(count)], a, a + 1, two_level_difference(a, a + 1))
        )
        for count in (1, 9, 10)
        for a in [np.zeros((1, count))]
    ]
    assert "interval -95.0 to +100.0, p = 1," in said[0]
    assert ["too few questions" in text for text in said] == [True, True, False]


def test_compare_refuses_other_questions_and_other_protocols(answered, gmpo_vl):
    a, b = answered("a", 0.5), answered("b", 0.5)
    results = json.loads((b / "results.json").read_text())
    results["settings"]["temperature"] = 1.0
    (b / "results.json").write_text(json.dumps(results))
    assert "settings.temperature is 0.5 there and 1.0 now" in gmpo_vl(
        "eval", "compare", "--a", a, "--b", b, code=2
    )


def test_the_page_carries_everything_and_runs_nothing_of_the_models(answered, gmpo_vl):
    folder = EvaluationFolder(answered("a", 0.5))
    gmpo_vl("eval", "regrade", folder.folder)
    first, *others = folder.samples()
    disputed = {"overall": 0.0, "strict": 1.0, "paper": 0.0}
    folder.write_samples([dataclasses.replace(first, correct=False, reward=disputed), *others])
    gmpo_vl("eval", "page", folder.folder)
    html = (folder.folder / "result.html").read_text()
    assert html.count('class="panel card"') == 14
    assert html.count("data:image/webp;base64,") == 14
    assert "<b>so</b>" not in html
    assert html.count("wrong disputed") == 1
    assert "strict says right, paper wrong" in html
    assert not re.search(r'(?:src|href)="(?!data:)', html)
    assert "the protocol was changed: data=test" in html
    assert "By family" in html


def test_difficulty_is_the_share_of_right_samples_and_filters(answered, diagrams, gmpo_vl, tmp_path):
    folder = answered("a", 0.5)
    gmpo_vl("eval", "regrade", folder)
    rates = {}
    for record in EvaluationFolder(folder).samples():
        rates.setdefault(record.id, []).append(record.correct)
    gmpo_vl("data", "difficulty", folder, "--data", diagrams, "--out", tmp_path / "all.parquet")
    table = pq.read_table(tmp_path / "all.parquet")
    assert table.drop_columns(["pass_rate", "pass_samples"]).equals(pq.read_table(diagrams))
    assert table["pass_rate"].to_pylist() == [sum(rates[i]) / 3 for i in table["id"].to_pylist()]
    out = tmp_path / "some.parquet"
    gmpo_vl("data", "difficulty", folder, "--data", diagrams, "--out", out, "--lowest", 0.1, "--highest", 0.9)
    kept = pq.read_table(out)["pass_rate"].to_pylist()
    assert 0 < len(kept) < 14
    assert all(0.1 <= rate <= 0.9 for rate in kept)


def test_difficulty_overwrites_no_data_and_leaves_no_empty_file(answered, diagrams, gmpo_vl, tmp_path):
    folder = answered("a", 0.0)
    gmpo_vl("eval", "regrade", folder)
    data, out = tmp_path / "mine.parquet", tmp_path / "some.parquet"
    data.write_bytes(diagrams.read_bytes())
    command = ["data", "difficulty", folder, "--data", data, "--out"]
    said = gmpo_vl(*command, data, "--lowest", 0.1, code=2)
    assert "mine.parquet is read here and would be overwritten" in said
    assert data.read_bytes() == diagrams.read_bytes()
    for bounds in (
        ["--lowest", 10],
        ["--highest", -0.5],
        ["--lowest", 0.9, "--highest", 0.1],
        ["--lowest", "nan"],
    ):
        assert "between 0 and 1" in gmpo_vl(*command, out, *bounds, code=2)
    assert "no row has a pass rate from 0.5 to 1" in gmpo_vl(*command, out, "--lowest", 0.5, code=2)
    assert not out.exists()


def test_the_table_sets_results_beside_the_papers_and_marks_what_differs(tmp_path, gmpo_vl):
    names = ("aime24", "amc", "math500", "minerva", "olympiad_bench")
    for name, value in zip((*names, "geometry3k"), (0.2, 0.4, 0.6, 0.3, 0.5, 0.54)):
        folder = tmp_path / "MODEL" / name
        folder.mkdir(parents=True)
        result = {
            "name": name,
            "pass@1": value,
            "ci95": [value - 0.05, value + 0.05],
            "model": {"path": "someone/Model-7B"},
            "template": {"name": "qwen_math"},
            "backend": {"name": "vllm", "dtype": "bfloat16"},
            "notes": ["the data has 554 questions, the protocol's 601"] if name == "geometry3k" else [],
        }
        (folder / "results.json").write_text(json.dumps(result))
    said = gmpo_vl("eval", "table", tmp_path / "MODEL")
    rows = {line.split("  ")[0]: line.split() for line in said.splitlines()}
    assert rows["GMPO-7B"] == ["GMPO-7B", "43.3", "61.4", "82.0", "33.5", "43.6", "52.7"]
    assert "20.0±5.0" in said
    assert re.search(r"50\.0±5\.0\s+40\.0\n", said), "the average is the unweighted mean"
    assert "54.0±5.0 [1]" in said
    assert "[1] the data has 554 questions" in said
    assert "MoE" not in said
    assert "94.6" not in said


def test_published_averages_are_the_means_of_their_rows_as_far_as_rounding_goes():
    import yaml

    published = yaml.safe_load((ROOT / "gmpo_vl/evaluation/published.yaml").read_text())
    wrong = [
        label
        for label, values in published["text"]["rows"].items()
        if abs(sum(values[:5]) / 5 - values[5]) > 0.1
    ]
    assert wrong == []


def test_a_stop_string_ends_an_answer_where_it_first_stands(tiny_text):
    processor = load_processor(tiny_text)
    ids = processor.tokenizer("x </think> <answer> 4 </answer> and on </answer>", add_special_tokens=False)[
        "input_ids"
    ]
    whole = Response(torch.tensor(ids), torch.zeros(len(ids)), processor.decode(torch.tensor(ids)), False, 1)
    short = cut(whole, processor.decode, None, "</answer>")
    assert short.text == "x </think> <answer> 4 </answer>"
    assert short.finished
    assert processor.decode(short.ids_T[:-1]).count("</answer>") == 0
    assert len(short.rollout_log_probs_T) == len(short.ids_T)
    limited = cut(whole, processor.decode, 3, "</answer>")
    assert (len(limited.ids_T), limited.finished) == (3, False)
    assert cut(whole, processor.decode, 1000, None).text == whole.text


def test_the_r1_template_wants_its_tags_and_unwraps_a_box():
    grading = Grading("paper", "math500", answer_in="tag", requires="</think> <answer>")
    responses = [
        "so 4 </think> <answer> \\boxed{4} </answer>",
        "so 4 </think> <answer> 4 </answer>",
        "so </think> \\boxed{4}",
        "so <answer> 4 </answer>",
    ]
    scored = grading.scored([(Example("a", "2 + 2?", "4"), [(response, 1) for response in responses])])
    assert [verdict.correct for _, verdict in scored] == [True, True, False, False]


@pytest.mark.parametrize(
    ("script", "protocol", "template"),
    [
        ("geometry3k_pass1_16", "geometry3k", None),
        ("text_benchmarks", "text", None),
        ("moe_math500", "math500", "chat"),
        ("alfworld", "alfworld", None),
    ],
)
def test_the_scripts_call_the_command_with_what_they_are_given(script, protocol, template, tmp_path):
    seen = tmp_path / "gmpo-vl"
    seen.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    seen.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def call(*arguments: str) -> subprocess.CompletedProcess:
        command = ["bash", str(ROOT / f"eval/{script}.sh"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    said = call("my model", "an out", "--workers", "2").stdout.splitlines()
    options = build_parser().parse_args(with_default_command(said))
    assert (options.model, str(options.out), options.workers) == ("my model", "an out", 2)
    assert (options.protocol, options.template) == (protocol, template)
    assert build_parser().parse_args(with_default_command(call("m").stdout.splitlines())).out is None
    assert "usage: bash eval/" in call().stderr
