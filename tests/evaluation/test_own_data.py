"""Data of one's own: what its result is called and states, where answers are read, and rewards that grade."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judge_server import Answer, judge_server, text_of

from gmpo_vl.data.start.write import rendered
from gmpo_vl.evaluation.protocols import load_protocol, name_of_data, protocol_of_data
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.tasks.diagrams.data import export

SMALL = ["--n", "2", "--max-tokens", "8", "--min-pixels", "784", "--limit", "4"]
SET = "+n=2,max_tokens=8,min_pixels=784,limit=4"
OF_THE_PAPER = ("geometry3k", "601", "paper", "pinned", "disput")

REWARD = """
REWARD_INPUTS = ("problem", "meta")


def compute_score(reward_inputs, bonus=0.0):
    scores = []
    for given in reward_inputs:
        assert given["problem"] and given["meta"]["family"]
        odd = float(len(given["response"]) % 2)
        scores.append({"overall": 0.5 * odd + bonus, "accuracy": odd, "brief": 1.0})
    return scores
"""


@pytest.fixture(scope="module")
def squares(tmp_path_factory) -> Path:
    """A folder as `data convert` writes it."""
    folder = tmp_path_factory.mktemp("own") / "squares"
    export(folder, {"train": 14, "validation": 14})
    return folder


@pytest.fixture
def results(tmp_path, gmpo_vl):
    """Evaluate with `--out tmp_path/out`: the results and their folder."""

    def run(*arguments) -> tuple[dict, Path]:
        known = set((tmp_path / "out").glob("*"))
        gmpo_vl("eval", *arguments, "--out", tmp_path / "out")
        (folder,) = set((tmp_path / "out").glob("*")) - known
        return json.loads((folder / "results.json").read_text()), folder

    return run


def answering(folder: Path, write) -> EvaluationFolder:
    """The evaluation as if its answers had been `write(record)`."""
    found = EvaluationFolder(folder)
    records = [dataclasses.replace(record, response=write(record)) for record in found.samples()]
    found.write_samples(records)
    return found


def test_data_alone_gives_the_result_its_name_and_nothing_is_said_of_the_paper(tiny, squares, results):
    found, folder = results(tiny, "--data", squares / "validation.parquet", *SMALL)
    assert found["name"] == folder.name == f"squares-validation{SET}"
    assert found["notes"] == ["set on the command line: n=2,max_tokens=8,min_pixels=784,limit=4"]
    assert (found["settings"]["grader"], found["template"]["answer_in"]) == ("strict", "box")
    assert "graders" not in found
    page = (folder / "result.html").read_text()
    page = page[page.index("<h1>") :].lower()
    assert "<h1>squares-validation</h1>" in page
    assert "give the final answer in \\boxed{}" in page
    assert [word for word in OF_THE_PAPER if word in page.partition('<dl class="settings">')[0]] == []
    assert [word for word in OF_THE_PAPER if word in json.dumps(found["notes"])] == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data/squares/validation.parquet", "squares-validation"),
        ("data/squares/test-00000-of-00001.parquet", "squares-test-00000-of-00001"),
        ("mine.csv", "mine"),
        ("data/squares", "squares"),
        ("data/squares/", "squares"),
        ("data/squares@validation", "squares-validation"),
        ("somebody/charts@test", "charts-test"),
        ("MathVista/testmini-00000-of-00001.parquet", "MathVista-testmini-00000-of-00001"),
        ("MathVista/Testing.v2.jsonl", "MathVista-Testing.v2"),
        ("tests.csv", "tests"),
        ("geometry3k.parquet", "geometry3k"),
        ("a b/图 1.jsonl", "图-1"),
    ],
)
def test_data_is_called_after_its_file_and_a_split_s_file_after_its_folder(
    source, name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = Path(source)
    if path.suffix and "@" not in source:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert name_of_data(source) == name
    assert protocol_of_data(source).name == (f"{name}-data" if name == "geometry3k" else name)


def test_the_protocol_that_data_new_writes_names_the_result_and_grades_as_training_pays(
    tiny, squares, results, tmp_path
):
    text = rendered(
        "evaluation",
        name="squares",
        data=str(squares / "validation.parquet"),
        format_prompt="r1v",
        max_prompt_length=256,
        max_response_length=8,
        min_pixels=None,
        max_pixels=None,
        reward="r1v",
        reward_kwargs={"format_weight": 0.25},
    )
    path = tmp_path / "squares_eval.yaml"
    path.write_text(text)
    protocol = load_protocol(str(path))
    assert (protocol.format_prompt, protocol.max_tokens, protocol.n) == ("r1v", 8, 16)
    path.write_text(text.replace("n: 16", "n: 2").replace("# limit: 100", "limit: 4"))
    found, folder = results(tiny, "--protocol", path)
    assert found["name"] == folder.name == "squares_eval"
    assert found["notes"] == []
    assert found["grader"] == {"reward": "r1v"}
    assert found["template"]["answer_in"] == "tag"
    assert set(found["reward"]) == {"overall", "accuracy", "format"}


def test_the_answer_is_read_where_the_prompt_asks_for_it(tiny, squares, results, gmpo_vl, tmp_path):
    own = tmp_path / "own.jinja"
    own.write_text("{{ content }} Write <answer>your answer</answer>.")
    for prompt in ("r1v", own):
        found, folder = results(
            tiny, "--data", squares / "validation.parquet", "--format-prompt", prompt, *SMALL
        )
        assert found["template"]["answer_in"] == "tag"
        answering(folder, lambda record: f"<think>x</think><answer>{record.gold}</answer>")
        gmpo_vl("eval", "regrade", folder)
        assert json.loads((folder / "results.json").read_text())["pass@1"] == 1.0
    assert found["template"]["format_prompt"] == own.read_text()
    assert "your answer&lt;/answer&gt;" in (folder / "result.html").read_text()


def test_a_prompt_that_asks_for_no_place_is_told(tiny, squares, results):
    found, _ = results(tiny, "--data", squares / "validation.parquet", "--format-prompt", "plain", *SMALL)
    assert any("do not say where the answer goes" in note for note in found["notes"])


def test_a_prompt_and_a_reward_that_disagree_are_refused(tiny, squares, gmpo_vl, tmp_path):
    start = ["eval", tiny, "--data", squares / "validation.parquet", *SMALL, "--out", tmp_path / "out"]
    for prompt, reward in (("r1v", "accuracy"), ("boxed", "r1v")):
        said = gmpo_vl(*start, "--format-prompt", prompt, "--grader", reward, code=2)
        assert "the prompt asks for the answer in" in said
    assert not (tmp_path / "out").exists()


def test_a_reward_s_file_grades_and_the_result_says_which(tiny, squares, results, gmpo_vl, tmp_path, content):
    file = tmp_path / "my_reward.py"
    file.write_text(REWARD)
    grader = ["--grader", f"{file}:compute_score", "--grader-options", "{bonus: 0.25}"]
    start = [tiny, "--data", squares / "validation.parquet", *SMALL, *grader]
    found, folder = results(*start)
    assert "grader=my_reward.py-compute_score,grader_options=bonus-0.25" in found["name"]
    assert len(found["grader"]["sha256"]) == 64
    records = list(EvaluationFolder(folder).samples())
    assert {tuple(record.reward) for record in records} == {("overall", "accuracy", "brief")}
    assert [record.correct for record in records] == [len(record.response) % 2 == 1 for record in records]
    assert found["reward"]["overall"] == pytest.approx(0.5 * found["pass@1"] + 0.25)
    assert not {"no_answer", "maj@k", "graders"} & found.keys(), "nobody knows what it read"
    before = content(folder)
    assert "0 verdicts changed" in gmpo_vl("eval", "regrade", folder)
    assert content(folder) == before
    assert "were not graded by strict" in gmpo_vl(
        "eval", "compare", "--a", folder, "--b", folder, "--grader", "strict", code=2
    )

    file.write_text(REWARD.replace("% 2)", "% 2 == 0)"))
    assert "grader.sha256 is" in gmpo_vl("eval", *start, "--out", tmp_path / "out", code=2)
    assert f"{len(records)} verdicts changed" in gmpo_vl("eval", "regrade", folder)
    again = json.loads((folder / "results.json").read_text())
    assert again["grader"]["sha256"] != found["grader"]["sha256"]
    assert again["pass@1"] == pytest.approx(1 - found["pass@1"])

    file.write_text(REWARD.replace('"meta")', '"meta", "images")'))
    assert "asks for the pictures" in gmpo_vl("eval", "regrade", folder, code=2)
    assert json.loads((folder / "results.json").read_text()) == again


def test_a_judge_grades_and_regrading_asks_it_about_what_it_did_not_say(
    tiny, squares, results, gmpo_vl, tmp_path
):
    right = Answer('{"correct": true}')

    def unsure(body):
        return right if len(text_of(body)) % 2 else Answer("Who knows?")

    with judge_server(unsure) as server:
        options = {
            "model": "m",
            "base_url": server.url,
            "api_key_env": None,
            "cache": str(tmp_path / "replies"),
            "max_failed_share": 1,
        }
        found, folder = results(
            tiny,
            *("--data", squares / "validation.parquet", *SMALL),
            *("--grader", "judge", "--grader-options", json.dumps(options)),
        )
        share = found["reward"]["unscored"]
        assert 0 < share < 1
        assert found["pass@1"] == pytest.approx(1 - share)
        assert found["reward"] | {"format": 0.0} == {
            "overall": 1.0,
            "accuracy": 1.0,
            "format": 0.0,
            "unscored": share,
        }
        assert "eval regrade` asks about them again" in found["notes"][0]
        server.answer, asked = lambda body: right, server.asked.copy()
        gmpo_vl("eval", "regrade", folder)
        again = [json.loads(body) for body in server.asked - asked]
        assert again
        assert all(len(text_of(body)) % 2 == 0 for body in again)
        found = EvaluationFolder(folder).results()
        assert (found["pass@1"], found["reward"]["unscored"]) == (1.0, 0.0)
        asked = server.asked.copy()
        assert "0 verdicts changed" in gmpo_vl("eval", "regrade", folder)
        assert server.asked == asked


def test_bad_rows_are_left_out_where_asked_and_none_matters_beyond_the_limit(
    tiny, squares, results, gmpo_vl, tmp_path
):
    rows = pq.read_table(squares / "validation.parquet").to_pylist()
    rows[3]["answer"] = ""
    rows[6]["problem"] = "no picture is asked for"
    path = tmp_path / "mixed.jsonl"
    (tmp_path / "pictures").mkdir()
    for i, row in enumerate(rows):
        (tmp_path / f"pictures/{i}.png").write_bytes(row["images"][0]["bytes"])
        row["images"] = [str(tmp_path / f"pictures/{i}.png")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    start = [tiny, "--data", path, "--n", 1, "--max-tokens", 4, "--min-pixels", 784]
    found, _ = results(*start, "--limit", 3)
    assert found["questions"] == 3
    found, _ = results(*start, "--limit", 4, "--on-bad-row", "skip")
    assert found["data"]["bad_rows"] == {"empty_answer": 1}  # row 6 stands behind the fourth question
    said = gmpo_vl("eval", *start, "--limit", 4, "--out", tmp_path / "out", code=2)
    assert "row 3" in said
    assert "row 6" not in said
    assert "--on-bad-row=skip" in said
    found, _ = results(*start, "--on-bad-row", "skip")
    assert (found["questions"], found["data"]["rows"]) == (len(rows) - 2, len(rows) - 2)
    assert found["data"]["bad_rows"] == {"empty_answer": 1, "image_tags": 1}
    assert any("left out: empty_answer 1, image_tags 1" in note for note in found["notes"])


def test_of_the_data_the_questions_that_are_asked_are_hashed(tiny, squares, results, gmpo_vl, tmp_path):
    table = pq.read_table(squares / "validation.parquet")

    def written(place: str, changed: int | None = None) -> Path:
        rows = table.to_pylist()
        if changed is not None:
            rows[changed]["answer"] = "another"
        path = tmp_path / place / "mine.parquet"
        path.parent.mkdir()
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
        return path

    as_it_was, behind, within = written("a"), written("b", 9), written("c", 2)
    small = [*SMALL[:-2], "--out", tmp_path / "out"]
    found, _ = results(tiny, "--data", as_it_was, *SMALL)
    gmpo_vl("eval", tiny, "--data", behind, *small, "--limit", 4)  # the same evaluation
    assert "data.sha256" in gmpo_vl("eval", tiny, "--data", within, *small, "--limit", 4, code=2)
    whole, _ = results(tiny, "--data", as_it_was, *small[:-2])
    assert whole["data"]["sha256"] != found["data"]["sha256"]
    assert "data.sha256" in gmpo_vl("eval", tiny, "--data", behind, *small, code=2)
    # a question that is not asked may lend its picture
    wrong, _ = results(tiny, "--data", as_it_was, *SMALL, "--pictures", "wrong")
    assert wrong["data"]["sha256"] == whole["data"]["sha256"]
    # and a protocol's hash is of all its data
    pinned = tmp_path / "pinned.yaml"
    pinned.write_text(f"data: {as_it_was}\ndata_sha256: {whole['data']['sha256']}\n")
    kept, folder = results(tiny, "--protocol", pinned, "--data", written("d"), *SMALL)
    assert (kept["data"]["pinned"], folder.name) == (True, f"pinned{SET}")


def test_a_folder_s_rows_to_train_on_are_not_taken_for_others_in_silence(tiny, squares, results):
    found, _ = results(tiny, "--data", squares, *SMALL)
    assert any("rows to train on" in note and f"{squares}@validation" in note for note in found["notes"])
    found, _ = results(tiny, "--data", f"{squares}@validation", *SMALL)
    assert not any("rows to train on" in note for note in found["notes"])


def test_where_the_data_lies_makes_no_other_evaluation(
    tiny, squares, results, gmpo_vl, tmp_path, monkeypatch
):
    _, folder = results(tiny, "--data", squares / "validation.parquet", *SMALL)
    moved = Path(shutil.copytree(squares, tmp_path / "elsewhere" / "squares"))
    monkeypatch.chdir(moved)
    gmpo_vl("eval", tiny, "--data", "validation.parquet", *SMALL, "--out", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == [folder.name]


def test_an_own_protocol_called_as_a_shipped_one_is_refused(tmp_path):
    path = tmp_path / "math500.yaml"
    path.write_text("data: mine.parquet\n")
    with pytest.raises(ValueError, match="give the file another name"):
        load_protocol(str(path))
