"""A judge model's verdicts beside the rules': a second result of stored answers, from a real HTTP server."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from imports import ROWS, lmms_file, lmms_line
from judge_server import AT_ONCE, SECRET, Answer, by_hash, judge_server, text_of
from test_aggregates import record

from gmpo_vl.evaluation.grading import grader_of, regrade
from gmpo_vl.evaluation.judged.write import Request, prepare
from gmpo_vl.evaluation.protocols import load_protocol
from gmpo_vl.evaluation.results import versions, write_protocol_results
from gmpo_vl.evaluation.two_graders import Table
from gmpo_vl.rewards import endpoint, judging
from gmpo_vl.rewards.judging import TEMPLATE, Settings
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import store_image
from gmpo_vl.storage.files import write_json

RIGHT, WRONG = Answer('{"correct": true}'), Answer('{"correct": false}')


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


@pytest.fixture
def judge(gmpo_vl, tmp_path):
    """`eval judge` as a new process would run it; what it printed."""

    def call(server, *results, code: int = 0, more=(), **options) -> str:
        endpoint.replies_in.cache_clear()
        given = json.dumps({"cache": str(tmp_path / "replies"), "max_retries": 0} | options)
        command = ["--model", "org/judge 1", "--base-url", server.url, "--options", given, *more]
        return gmpo_vl("eval", "judge", *results, *command, code=code)

    return call


@pytest.fixture
def imported(gmpo_vl, tmp_path) -> EvaluationFolder:
    gmpo_vl("eval", "import", lmms_file(tmp_path), "--out", tmp_path / "out")
    return EvaluationFolder(tmp_path / "out" / "shapes-imported")


def of(source: EvaluationFolder) -> EvaluationFolder:
    """The one judged result beside it."""
    (found,) = source.folder.parent.glob("*judge=*")
    return EvaluationFolder(found)


def stored(folder: Path, protocol: str, rows: list[tuple], **changes) -> EvaluationFolder:
    """A finished evaluation by a protocol. rows: (gold, meta, its responses)."""
    n = len(rows[0][2])
    found = EvaluationFolder(folder / protocol).create()
    plan = {
        "name": protocol,
        "protocol": {**load_protocol(protocol).stated(), "n": n, "questions": None, **changes},
        "template": {"name": "chat", "stop": None, "answer_in": "box"},
        "questions": len(rows),
        "data": {"source": "rows", "rows": len(rows), "sha256": "0" * 64, "pinned": None},
        "model": {"path": "org/tiny", "sha256": folder.name},
        "backend": {"name": "transformers", "dtype": "float32", "device": "cpu"},
        "versions": versions(),
    }
    asked = [
        type(one)(**{**vars(one), "gold": gold, "response": response, "prompt": f"Question {i}?"})
        for i, (gold, meta, responses) in enumerate(rows)
        for k, response in enumerate(responses)
        for one in [record(i, k, meta, False)]
    ]
    if plan["protocol"]["grader"] in ("strict", "paper"):
        asked = list(regrade(asked, grader_of(plan), processes=1))
    found.write_samples(asked)
    write_json(found.plan_file, plan)
    write_protocol_results(found, plan, asked)
    return found


def likes(*texts: str):
    """A judge that calls right what has one of the texts, between the marks."""

    def answer(body):
        shown = re.search(r"\n-----\w+-----\n(.*)\n-----", text_of(body), re.DOTALL)[1]
        return RIGHT if any(text in shown for text in texts) else WRONG

    return answer


# --- what it writes -----------------------------------------------------------------------------------------
def test_both_verdicts_stand_in_every_sample_and_where_they_part_in_the_result(judge, imported):
    before = {path.name: path.read_bytes() for path in imported.folder.iterdir() if path.is_file()}
    with judge_server(likes("letter is B", "may be six", "7")) as server:
        printed = judge(server, imported.folder)
        shown = sorted(text_of(body) for body in server.bodies())
        assert server.asked.total() == len(ROWS), "every answer is asked about"
        assert server.keys == {f"Bearer {SECRET}"}
    assert sum("Choices:\nA. circle\nB. square\nC. triangle\n" in text for text in shown) == 2
    assert {path.name: path.read_bytes() for path in imported.folder.iterdir() if path.is_file()} == before

    found = of(imported)
    assert re.fullmatch(r"shapes-imported\+judge=org-judge-1-[0-9a-f]{8}", found.folder.name)
    samples = list(found.samples())
    assert [s.correct for s in samples] == [False, True, False, True, True]
    assert [s.reward["judge"] for s in samples] == [0, 1, 0, 1, 1] == [s.reward["overall"] for s in samples]
    assert [s.reward["strict"] for s in samples] == [s.reward["strict"] for s in imported.samples()]
    assert [s.reward["official"] for s in samples] == [row[4] for row in ROWS]
    assert [(s.extracted, s.outcome) for s in samples] == [
        (s.extracted, s.outcome) for s in imported.samples()
    ]

    results = found.results()
    table = results["rules_and_judge"]
    assert results["pass@1"] == table["judge"]["value"] == pytest.approx(3 / 5)
    assert table["rules"]["value"] == imported.results()["pass@1"] == pytest.approx(3 / 5)
    counts = ("both_right", "only_rules_right", "only_judge_right", "neither_right")
    assert [table[key] for key in counts] == [1, 2, 2, 0]
    assert (table["asked"], table["unscored"], table["answers"], table["agreement"]) == (5, 0, 5, 0.2)
    assert table["difference"]["value"] == 0
    assert table["difference"]["ci95"][0] < 0 < table["difference"]["ci95"][1]
    kinds = table["kinds"]["gold type"]
    assert [kinds["choice"][key] for key in counts] == [1, 1, 0, 0]
    assert [kinds["integer"][key] for key in counts] == [0, 1, 2, 0]
    facts = results["judge"]
    assert (facts["model"], facts["base_url"], facts["prompt"]) == ("org/judge 1", server.url, TEMPLATE.name)
    assert (facts["rules"], facts["only_refused"], facts["of"]) == ("strict", False, "shapes-imported")
    assert results["settings"]["grader"] == f"judge={facts['name']}"
    assert "by the rules alone 2, by the judge alone 2" in printed
    assert "rules alone / judge alone by gold type: choice 1 / 0 of 2, integer 1 / 2 of 3" in printed
    everything = b"".join(path.read_bytes() for path in found.folder.rglob("*") if path.is_file())
    assert SECRET.encode() not in everything


def test_the_page_has_the_table_and_shows_what_is_disputed_first(judge, imported, gmpo_vl):
    with judge_server(likes("letter is B", "may be six", "4")) as server:
        judge(server, imported.folder)
    html = (of(imported).folder / "result.html").read_text()
    assert "The judge and the rules" in html
    assert "judged by <b>org/judge 1</b>" in html
    cards = html.split('<article class="panel card"')[1:]
    disputed = ["graders disagree" in card for card in cards]
    assert disputed == sorted(disputed, reverse=True)
    assert sum(disputed) == 3  # the harness's verdicts count there, too
    assert "strict says right, official right, judge wrong" in html
    (of(imported).folder / "result.html").unlink()
    gmpo_vl("eval", "page", of(imported).folder)
    assert (of(imported).folder / "result.html").read_text() == html


def test_a_benchmark_is_counted_by_the_judge_and_its_own_result_says_that_it_lacks_one(judge, tmp_path):
    meta = {"question_type": "free_form", "task": "geometry", "skills": "algebraic; arithmetic"}
    rows = [("12", meta, ["\\boxed{12}", "it is a dozen"]), ("3", meta, ["\\boxed{4}", "three, so"])]
    source = stored(tmp_path / "a", "mathvista", rows)
    said = source.results()
    assert said["aggregates"]["task: geometry"]["value"] == 0.25
    assert said["notes"][-1].startswith("the official score: a GPT extracts")
    assert said["notes"][-2] == "`gmpo-vl eval judge` sets a judge model's verdicts beside the rules'"
    with judge_server(likes("dozen", "three", "12")) as server:
        judge(server, tmp_path / "a")
        results = of(source).results()
        assert results["aggregates"]["task: geometry"]["value"] == 0.75
        assert results["maj@k"]["2"]["value"] == 0.5, "what the rules read no answer in has no vote"
        assert not any("`gmpo-vl eval judge`" in note for note in results["notes"])
        assert results["rules_and_judge"]["difference"]["value"] == 0.5
        # all of a folder: what is judged already is let be
        judge(server, tmp_path / "a")
        assert server.asked.total() == 4
        error = judge(server, of(source).folder, code=2)
    assert "is a judged result itself" in error


def test_only_what_the_rules_refuse_is_asked_about_where_that_is_wished(judge, imported):
    with judge_server(likes("six")) as server:
        printed = judge(server, imported.folder, more=["--only-refused"])
        assert server.asked.total() == 2
    results = of(imported).results()
    table = results["rules_and_judge"]
    assert (table["asked"], table["only_rules_right"], table["only_judge_right"]) == (2, 0, 1)
    assert (table["agreement"], table["kappa"]) == (None, None), "nobody asked about the others"
    assert "agreement is not known" in (of(imported).folder / "result.html").read_text()
    assert "agreement" not in printed
    assert results["pass@1"] == pytest.approx(4 / 5)
    assert "the judge could add right ones, and take none away" in printed
    assert ["judge" in s.reward for s in of(imported).samples()] == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("change", "another"),
    [
        ({"concurrency": 3, "timeout": 5.0, "cache": "elsewhere"}, False),
        ({"max_pixels": 5000}, False),  # of pictures that are not sent
        ({"temperature": 0.5}, True),
        ({"seed": 1}, True),
        ({"max_tokens": 7}, True),
        ({"extra_body": {"top_k": 1}}, True),
        ({"answer_in": "tag"}, True),
        ({"prompt": "own"}, True),
        ({"prompt": "copy"}, False),
        ({"only_refused": True}, True),
        ({"model": "another"}, True),
    ],
)
def test_a_result_s_name_changes_with_what_changes_a_verdict(imported, tmp_path, change, another):
    texts = {"copy": TEMPLATE.read_text(), "own": "{{ answer or response }}?"}
    if "prompt" in change:
        path = tmp_path / f"{change['prompt']}.jinja"
        path.write_text(texts[path.stem])
        change = {"prompt": str(path)}
    change = dict(change)
    only_refused, model = change.pop("only_refused", False), change.pop("model", "m")
    requests = (Request("m"), Request(model, options=change, only_refused=only_refused))
    names = [prepare(imported, request).plan["name"].rpartition("-")[2] for request in requests]
    assert (names[0] != names[1]) is another


def test_pictures_are_those_that_the_result_keeps(judge, tmp_path):
    import numpy as np

    rows = [("3", {}, ["three", "four"]), ("5", {}, ["five", "five"])]
    source = stored(tmp_path / "out", "geoqa", rows, limit=2)
    with judge_server(likes("three", "five")) as server:
        said = judge(server, source.folder, with_images=True, code=2)
        assert "keeps no pictures" in said
        name = store_image(source.images, np.zeros((30, 40, 3), np.uint8))
        samples = [
            type(s)(**{**vars(s), "images": [name], "prompt": "<image>How many?"}) for s in source.samples()
        ]
        source.write_samples(samples)
        judge(server, source.folder, with_images=True)
        contents = [body["messages"][0]["content"] for body in server.bodies()]
        assert [parts[0]["image_url"]["url"][:22] for parts in contents] == ["data:image/png;base64,"] * 3
        assert "[picture 1]How many?" in contents[0][1]["text"]
        found = of(source)
        assert (found.images / f"{name}.webp").read_bytes() == (source.images / f"{name}.webp").read_bytes()
        (source.images / f"{name}.webp").unlink()
        assert "lacks 1 of 1 pictures" in judge(server, source.folder, with_images=True, code=2)


# --- failures, kills ----------------------------------------------------------------------------------------
def test_too_many_failures_end_it_and_what_was_answered_is_not_asked_again(judge, imported):
    broken = Answer(status=500, headers=AT_ONCE)
    with judge_server(lambda body: broken if "cube" in text_of(body) else by_hash(body)) as server:
        error = judge(server, imported.folder, concurrency=1, code=2)
        assert "2 of 5 responses have no verdict of org/judge 1" in error
        assert "is not asked again" in error
        assert not list(imported.folder.parent.glob("*judge=*"))
        server.answer = by_hash
        judge(server, imported.folder)
        assert all(count == 1 + ("cube" in text_of(json.loads(body))) for body, count in server.asked.items())


def test_an_answer_without_a_verdict_is_wrong_said_and_asked_about_by_regrade(judge, imported, gmpo_vl):
    prose = Answer("I think that it may be so")
    with judge_server(lambda body: prose if "may be six" in text_of(body) else RIGHT) as server:
        printed = judge(server, imported.folder, max_failed_share=0.2)
        found = of(imported)
        assert "1 of 5 answers could not be scored and count as wrong: `gmpo-vl eval regrade`" in printed
        assert "1 of them without a verdict" in printed
        results = found.results()
        table = results["rules_and_judge"]
        assert (results["pass@1"], table["answers"], table["asked"], table["unscored"]) == (0.8, 4, 5, 1)
        assert results["reward"] == {"overall": 1.0, "unscored": 0.2}
        assert [s.outcome for s in found.samples()].count("unscored") == 1
        server.answer = lambda body: WRONG
        before = server.asked.total()
        endpoint.replies_in.cache_clear()
        said = gmpo_vl("eval", "regrade", found.folder, "--processes", "1")
        assert server.asked.total() == before + 1
    assert "Pass@1 80.0 -> 80.0" in said
    assert found.results()["rules_and_judge"]["answers"] == 5
    assert "reward" not in found.results()


def test_a_killed_command_goes_on_to_the_same_bytes(tmp_path, gmpo_vl, content):
    lines = [lmms_line(i, f"How many are {i}?", str(i), f"It may be {i}.\nOr so.", 1.0) for i in range(40)]
    gmpo_vl("eval", "import", lmms_file(tmp_path, lines, "many"), "--out", tmp_path / "own")

    def command(name: str) -> list:
        options = {"cache": str(tmp_path / name), "concurrency": 2}
        out = ["--out", tmp_path / f"out_{name}", "--options", json.dumps(options)]
        return ["eval", "judge", tmp_path / "own" / "many-imported", "--model", "m", *out]

    def slowly(body):
        time.sleep(0.02)
        return by_hash(body)

    with judge_server(slowly) as server:
        at = ["--base-url", server.url]
        killed = subprocess.Popen([sys.executable, "-m", "gmpo_vl", *command("killed"), *at])
        while server.asked.total() < 11:
            assert killed.poll() is None
            time.sleep(0.005)
        killed.kill()
        killed.wait()
        assert 11 <= server.asked.total() < 40
        gmpo_vl(*command("killed"), *at)
        times = [n for body, n in server.asked.items() if body.endswith(b"}")]  # the kill may cut one short
        assert len(times) == 40
        assert sum(times) <= 42, "but for the two under way nothing is asked again"
        gmpo_vl(*command("whole"), *at)

    def plain(name: str) -> dict[str, bytes]:
        (folder,) = (tmp_path / f"out_{name}").iterdir()
        cache = str(tmp_path / name).encode()  # which is stated
        return {key: value.replace(cache, b"CACHE") for key, value in content(folder).items()}

    assert plain("killed") == plain("whole")


# --- what is refused, and the other commands ----------------------------------------------------------------
def test_what_no_judge_is_set_beside_is_refused_before_anything_is_asked(judge, imported, tmp_path):
    games = stored(tmp_path / "g", "geoqa", [("3", {}, ["3"])], environment={"name": "x"})
    reward = stored(tmp_path / "r", "geoqa", [("3", {}, ["3"])], grader="numeric")
    same = stored(tmp_path / "b", "geoqa", [("3", {}, ["3"])])
    with judge_server() as server:
        assert "holds games" in judge(server, games.folder, code=2)
        assert "was graded by the reward numeric" in judge(server, imported.folder, reward.folder, code=2)
        for name, said in (
            ("verify_first", "--only-refused"),
            ("model", "--model"),
            ("format_weight", "no form"),
        ):
            assert said in judge(server, imported.folder, code=2, **{name: 0})
        assert "did you mean temperature" in judge(server, imported.folder, code=2, temperatur=1)
        both = (same.folder, stored(tmp_path / "c", "geoqa", [("3", {}, ["3"])]).folder)
        error = judge(server, *both, code=2, more=["--out", tmp_path / "out"])
        assert "would both be judged into" in error
        assert not server.asked
        judge(server, both[0], more=["--out", tmp_path / "out"])
        error = judge(server, both[1], code=2, more=["--out", tmp_path / "out"])
        assert "holds another judged result: model.sha256 is" in error


def test_another_address_of_the_same_name_is_another_judge(judge, imported):
    with judge_server() as first, judge_server() as second:
        judge(first, imported.folder)
        error = judge(second, imported.folder, code=2)
        assert "holds another judged result: base_url is" in error


def test_grading_again_asks_the_cache_and_a_changed_prompt_is_refused(judge, imported, gmpo_vl, tmp_path):
    own = tmp_path / "own.jinja"
    own.write_text("Is {{ answer or response }} the same as {{ golds[0] }}?")
    with judge_server() as server:
        judge(server, imported.folder, prompt=str(own))
        found = of(imported)
        before = found.results(), list(found.samples())
        endpoint.replies_in.cache_clear()
        said = gmpo_vl("eval", "regrade", found.folder, "--processes", "1")
        assert "0 verdicts changed" in said
        assert (found.results(), list(found.samples())) == before
        assert server.asked.total() == 5
        own.write_text("{{ answer or response }}!")
        judging._text.cache_clear()
        error = gmpo_vl("eval", "regrade", found.folder, code=2)
    assert "the prompt own.jinja has changed since" in error


def test_judged_results_are_exported_and_compared_by_one_grader(judge, tmp_path, gmpo_vl):
    rows = [(str(i), {}, [f"\\boxed{{{i}}}" if i % 2 else f"{i} it is"]) for i in range(12)]
    source = stored(tmp_path / "out", "geoqa", rows)
    with judge_server(likes("it is")) as server:
        judge(server, source.folder)
    found = of(source)
    sides = ["--a", source.folder, "--b", found.folder]
    assert "settings.grader is" in gmpo_vl("eval", "compare", *sides, code=2)
    assert "b - a: +0.0 points" in gmpo_vl("eval", "compare", *sides, "--grader", "strict")
    assert "none of these results" in gmpo_vl("eval", "table", found.folder, code=2)
    path = tmp_path / "samples_geoqa.jsonl"
    gmpo_vl("eval", "export", found.folder, "--out", path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["overall"], line["judge"], line["strict"]) for line in lines[:2]] == [(1, 1, 0), (0, 0, 1)]
    gmpo_vl("eval", "import", path, "--official", "judge", "--out", tmp_path / "back")
    (again,) = (tmp_path / "back").iterdir()
    assert EvaluationFolder(again).results()["official"]["value"] == found.results()["pass@1"]
    assert EvaluationFolder(again).results()["official"]["agreement"] == 0


def test_agreement_beyond_chance_is_cohen_s_kappa():
    assert Table(20, 5, 10, 15).kappa == pytest.approx(0.4)  # p_o 0.7, p_e 0.5
    assert Table(20, 5, 10, 15).agreement == pytest.approx(0.7)
    assert Table(0, 5, 5, 0).kappa == pytest.approx(-1)
    assert Table(7, 0, 0, 0).kappa is None


def test_a_regrade_that_fails_leaves_samples_and_results_as_they_were(judge, imported, gmpo_vl, tmp_path):
    with judge_server() as server:
        judge(server, imported.folder, max_failed_share=1)
    found = of(imported)
    before = found.samples_file.read_bytes(), found.results_file.read_bytes()
    shutil.rmtree(tmp_path / "replies")  # and the server is gone
    endpoint.replies_in.cache_clear()
    said = gmpo_vl("eval", "regrade", found.folder, "--processes", "1", code=2)
    assert "the judge gave a verdict on none of 5 answers" in said
    assert (found.samples_file.read_bytes(), found.results_file.read_bytes()) == before
    assert not list(found.folder.glob("*.partial"))


@pytest.mark.parametrize(
    "body", [{"api_key": "sk-1"}, {"headers": {"Authorization": "Bearer x"}}, {"a": [{"access-token": "x"}]}]
)
def test_keys_in_a_request_s_body_are_refused(judge, imported, body):
    with judge_server() as server:
        said = judge(server, imported.folder, extra_body=body, code=2)
    assert "and would be saved with the run" in said
    assert not list(imported.folder.parent.glob("*judge*"))


def test_settings_whose_names_are_like_those_of_keys_are_taken():
    body = {"max_completion_tokens": 9, "stop_token_ids": [1], "prompt_cache_key": "a"}
    assert Settings("any", api_key_env=None, extra_body=body).extra_body == body
