"""Games through `gmpo-vl eval`: killed, split, counted by category, compared, shown; and what is refused.

The tiny model plays games whose steps depend on an answer's letters (tests/engines/playing_games.py), so that
some are won.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from interruptions import Interrupted, dies_after_one_chunk, interrupt_after

from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.rows import Columns
from gmpo_vl.environments.gridworld import export
from gmpo_vl.evaluation import answering, sharing
from gmpo_vl.evaluation.answering import Conditions, evaluate
from gmpo_vl.evaluation.prepare import data_hash
from gmpo_vl.evaluation.protocols import load_protocol, override
from gmpo_vl.models.loading import load_for_inference
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.prompts import PromptSettings, load_prompts
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import episodes
from gmpo_vl.types import Sampling

ROOT = Path(__file__).parents[2]
GAMES = ROOT / "tests/engines/playing_games.py"
PLAIN = {"min_pixels": None, "max_pixels": None, "max_prompt_tokens": 400, "max_tokens": 6, "chunk": 3}


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    """Eight games in two categories."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    texts = [
        {"problem": "Walk on.", "answer": "-", "id": f"row {i}", "category": ("Long", "Short")[i % 2]}
        for i in range(8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in texts))
    return path


@pytest.fixture(scope="module")
def protocol(rows, tmp_path_factory):
    """A protocol's file, called after the game, with other values."""
    folder = tmp_path_factory.mktemp("protocols")

    def write(game: str, section: dict | None = None, **values) -> Path:
        environment = {"name": f"{GAMES}:{game}", "max_turns": 5, "history_length": 1, **(section or {})}
        fields = {
            "data": str(rows),
            "n": 2,
            "temperature": 1.0,
            **PLAIN,
            **values,
            "environment": environment,
        }
        path = folder / f"{len(list(folder.iterdir()))}" / f"{game.lower()}.yaml"
        path.parent.mkdir()
        path.write_text(json.dumps(fields))
        return path

    return write


@pytest.fixture(scope="module")
def walk(protocol) -> Path:
    return protocol("Walk")


@pytest.fixture(scope="module")
def whole_games(tiny, walk, tmp_path_factory) -> Path:
    """The games of `walk`, uninterrupted. Shared: nobody writes into it."""
    from gmpo_vl.cli import main

    out = tmp_path_factory.mktemp("whole_games")
    assert main(["eval", str(tiny), "--protocol", str(walk), "--out", str(out)]) == 0
    return out / "walk"


def results_of(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_figures_are_of_episodes_and_add_up(whole_games):
    results, records = results_of(whole_games), list(EvaluationFolder(whole_games).samples())
    of_games = episodes(records)
    assert (results["questions"], results["n"], len(of_games)) == (8, 2, 16)
    won = [turns[-1].turn["won"] for turns in of_games]
    assert results["pass@1"] == sum(won) / 16
    assert 0 < sum(won) < 16, "games of one outcome show nothing"
    assert [record.correct for record in records] == [w for w, turns in zip(won, of_games) for _ in turns]
    figures = results["episode"]
    assert figures["turns"] == len(records) / 16
    assert figures["won"] == results["pass@1"]
    assert figures["cut"] == sum(turns[-1].turn["ending"] == "cut" for turns in of_games) / 16
    valid = [value for turns in of_games for value in turns[-1].turn["valid"]]
    assert valid == [float(record.turn["action"] == "on") for record in records]
    assert figures["valid"] == sum(valid) / len(valid)
    assert figures["length"] == sum(record.length for record in records) / 16
    assert results["mean_length"] == sum(record.length for record in records) / len(records)
    shares = results["categories"]
    assert {name: share["games"] for name, share in shares.items()} == {"Long": 4, "Short": 4}
    assert sum(share["value"] for share in shares.values()) / 2 == results["pass@1"]
    assert all(share["ci95"] is None for share in shares.values()), "4 games are too few"
    assert results["settings"]["environment"]["max_turns"] == 5
    assert results["settings"]["grader"] == "game"
    assert len(results["environment"]["sha256"]) == 64
    assert "{{ observation }}" in results["environment"]["template"]
    assert not {"no_answer", "maj@k", "graders", "grader"} & results.keys()


def test_a_kill_in_the_middle_of_an_episode_changes_nothing(
    tiny, walk, whole_games, tmp_path, gmpo_vl, monkeypatch, content
):
    arguments = ["eval", tiny, "--protocol", walk, "--out", tmp_path]
    with monkeypatch.context() as patched:
        interrupt_after(patched, 7)  # turns: the next is of the second chunk
        with pytest.raises(Interrupted):
            gmpo_vl(*arguments)
    kept = sorted((tmp_path / "walk/chunks").glob("*.jsonl"))
    assert len(kept) == 1
    gmpo_vl(*arguments)
    assert content(tmp_path / "walk") == content(whole_games)


def test_a_worker_killed_by_the_system_and_shards_give_the_same_bytes(
    tiny, walk, whole_games, tmp_path, gmpo_vl, monkeypatch, content
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments = ["eval", tiny, "--protocol", walk, "--out"]
    with monkeypatch.context() as patched:
        patched.setattr(sharing, "answer_shard", dies_after_one_chunk)
        assert "1 of 2 workers failed" in gmpo_vl(*arguments, tmp_path / "killed", "--workers", 2, code=1)
    gmpo_vl(*arguments, tmp_path / "killed")
    for shard in ("2/2", "1/2"):
        gmpo_vl(*arguments, tmp_path / "shards", "--shard", shard)
    gmpo_vl("eval", "merge", tmp_path / "shards/walk")
    assert content(tmp_path / "killed") == content(tmp_path / "shards") == content(whole_games.parent)


def test_neither_the_size_of_chunks_nor_processes_of_their_own_change_a_sample(
    tiny, protocol, whole_games, tmp_path, gmpo_vl
):
    for number, path in enumerate((protocol("Walk", chunk=1), protocol("Walk", {"isolate": True}, chunk=8))):
        gmpo_vl("eval", tiny, "--protocol", path, "--out", tmp_path / str(number))
        found = (tmp_path / str(number) / "walk/samples.jsonl").read_bytes()
        assert found == (whole_games / "samples.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda lines: lines[:-1], "has an episode of row 2 that has no end"),
        (lambda lines: [*lines[:1], *lines[2:]], "has another sample than the plan's in line 2"),
        (lambda lines: [*lines[:-1], lines[-1].replace('"episode": 1', '"episode": 0')], "another sample"),
        (lambda lines: [*lines[:-1], lines[-1].replace('"number": ', '"number": "', 1)], "cannot be read"),
    ],
    ids=["cut short", "a turn is missing", "another episode", "no number"],
)
def test_a_damaged_chunk_is_set_aside_and_played_again(
    tiny, walk, whole_games, tmp_path, gmpo_vl, content, capsys, damage, said
):
    arguments = ["eval", tiny, "--protocol", walk, "--out", tmp_path]
    gmpo_vl(*arguments, "--shard", "1/3")
    chunk = tmp_path / "walk/chunks/000000.jsonl"
    lines = chunk.read_text().splitlines()
    assert damage(lines) != lines
    chunk.write_text("".join(f"{line}\n" for line in damage(lines)))
    from gmpo_vl.cli import main

    assert main([str(argument) for argument in arguments]) == 0
    assert said in capsys.readouterr().err
    assert content(tmp_path / "walk") == content(whole_games)


def test_two_evaluations_are_compared_by_game(tiny, walk, whole_games, tmp_path, gmpo_vl):
    gmpo_vl("eval", tiny, "--protocol", walk, "--out", tmp_path, "--seed", 2)
    other = tmp_path / "walk+seed=2"
    said = gmpo_vl("eval", "compare", "--a", whole_games, "--b", other)
    a, b = (100 * results_of(folder)["pass@1"] for folder in (whole_games, other))
    assert f"a {a:.1f}   b {b:.1f}   8 games, 1 and 1 runs" in said
    assert "paired by game" in said
    assert "too few games: 8" in said
    gmpo_vl("eval", tiny, "--protocol", walk, "--out", tmp_path, "--n", 1)
    refused = gmpo_vl("eval", "compare", "--a", whole_games, "--b", tmp_path / "walk+n=1", code=2)
    assert "settings.n is 2 there and 1 now" in refused


def test_rows_get_the_share_of_their_won_episodes(whole_games, rows, tmp_path, gmpo_vl):
    gmpo_vl("data", "difficulty", whole_games, "--data", rows, "--out", tmp_path / "rated.jsonl")
    rated = [json.loads(line) for line in (tmp_path / "rated.jsonl").open()]
    assert {row["pass_samples"] for row in rated} == {2}
    assert sum(row["pass_rate"] for row in rated) / 8 == results_of(whole_games)["pass@1"]


def test_the_page_shows_games_turn_by_turn(whole_games, gmpo_vl, tmp_path):
    page = (whole_games / "result.html").read_text()
    assert "8 of 8 games, turn by turn" in page
    assert "Won: mean over games of the share of won episodes" in page
    assert page.count("✓ won") + page.count("✗ not won") >= 8
    assert "turn 2" in page
    assert "of the turns" in page
    assert "picture 2 of the turn" in page, "the history's"
    assert page.count("<h2>By category</h2>") == 1
    assert "Answers</h2>" not in page
    folder = EvaluationFolder(tmp_path / "copy").create()
    for name in ("results.json", "samples.jsonl"):
        (folder.folder / name).write_bytes((whole_games / name).read_bytes())
    gmpo_vl("eval", "page", folder.folder, "--questions", 2)
    assert "2 of 8 games" in (folder.folder / "result.html").read_text()


def test_what_games_themselves_said_is_not_graded_again(whole_games, gmpo_vl):
    said = gmpo_vl("eval", "regrade", whole_games, code=2)
    assert "each said itself whether it was won" in said


# --- games that end otherwise ---
def test_games_that_break_or_are_too_long_are_not_won_and_noted(tiny, protocol, tmp_path, gmpo_vl):
    said = gmpo_vl("eval", tiny, "--protocol", protocol("Breaks"), "--out", tmp_path)
    results = results_of(tmp_path / "breaks")
    broken = results["episode"]["broken"]
    assert 0 < broken < 1
    assert f"{round(16 * broken)} of 16 episodes could not be played on" in results["notes"][0]
    assert "step raised KeyError" in results["notes"][0]
    assert f"{round(16 * broken)} of 16 episodes broke or were late: they count as not won" in str(results)
    assert not any("regrade" in note for note in results["notes"])
    for turns in episodes(EvaluationFolder(tmp_path / "breaks").samples()):
        failed = turns[-1].turn["ending"] == "broken"
        assert all((turn.outcome == "unscored") == failed for turn in turns)
        assert not (failed and turns[-1].correct)
        assert not (failed and turns[-1].turn["won"] is not None)
    assert results["reward"]["unscored"] == broken
    assert f"{broken:.1%} broken" in said
    assert "step raised KeyError" in (tmp_path / "breaks/result.html").read_text()
    said = gmpo_vl("eval", tiny, "--protocol", protocol("Long", max_prompt_tokens=300), "--out", tmp_path)
    assert "100.0% with a prompt too long" in said
    assert results_of(tmp_path / "long")["pass@1"] == 0
    assert "max_prompt_length is 300" in results_of(tmp_path / "long")["notes"][0]


def test_games_that_never_say_won_count_by_their_score_and_it_is_said(tiny, protocol, tmp_path, gmpo_vl):
    points = protocol("Points", {"settings": {"worth": 40.0}})
    said = gmpo_vl("eval", tiny, "--protocol", points, "--out", tmp_path)
    results = results_of(tmp_path / "points")
    records = list(EvaluationFolder(tmp_path / "points").samples())
    scores = [turns[-1].reward["overall"] for turns in episodes(records)]
    over = [turns[-1].turn["ending"] == "over" for turns in episodes(records)]
    assert "won" not in results["episode"]
    assert 0 < results["pass@1"] == sum(score >= 0.5 for score, ended in zip(scores, over) if ended) / 16
    assert results["by_score"] == sum(over)
    assert results["reward"] == {"overall": pytest.approx(sum(scores) / 16)}
    assert "score of at least 0.5 " in said
    assert (
        f"the games of {sum(over)} of 16 episodes never said `won`: of these a score of at least 0.5" in said
    )
    assert "never said" not in "".join(results_of(tmp_path / "points")["notes"][1:])


def test_a_game_that_cannot_begin_is_a_bad_row_before_the_model_is_loaded(
    tiny, protocol, tmp_path, gmpo_vl, monkeypatch
):
    monkeypatch.setattr(answering, "load_backend", None)
    said = gmpo_vl("eval", tiny, "--protocol", protocol("NeverBegins"), "--out", tmp_path / "a", code=2)
    assert "reset raised OSError: no board" in said
    path = protocol("LongAtOnce", max_prompt_tokens=100)
    assert "prompt_too_long" in gmpo_vl("eval", tiny, "--protocol", path, "--out", tmp_path / "a", code=2)
    assert not (tmp_path / "a").exists()


# --- controls ---
@pytest.fixture(scope="module")
def levels(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("levels")
    export(folder, {"test": 6})
    return folder / "test.parquet"


@pytest.mark.parametrize("pictures", ["as_is", "blank", "wrong"])
def test_what_is_seen_of_the_grid_world_and_in_its_controls(tiny, levels, tmp_path, gmpo_vl, pictures):
    changes = ["--n", 1, "--max-tokens", 3, "--pictures", pictures]
    said = gmpo_vl("eval", tiny, "--protocol", "gridworld", "--data", levels, *changes, "--out", tmp_path)
    [place] = tmp_path.iterdir()
    records = list(EvaluationFolder(place).samples())
    results = results_of(place)
    assert results["data"]["pinned"] is False, "6 levels of the 512"
    assert (f"a control: the pictures are {pictures}" in results["notes"]) == (pictures != "as_is")
    assert "15.0 turns an episode" in said
    firsts = {record.id: record.images for record in records if record.turn["number"] == 1}
    assert all(len(record.images) == 1 for record in records), "no history is shown"
    if pictures == "blank":
        assert len(list((place / "images").iterdir())) == 1
    if pictures == "wrong":
        assert all(record.images == firsts[record.id] for record in records), "nothing of the game is seen"
    if pictures != "blank":
        assert len({tuple(images) for images in firsts.values()}) == 6


def test_wrong_pictures_are_the_next_game_s(tiny, levels, tmp_path, gmpo_vl):
    changes = ["--n", 1, "--max-tokens", 1]
    for pictures in ("as_is", "wrong"):
        given = ["--data", levels, *changes, "--pictures", pictures, "--out", tmp_path]
        gmpo_vl("eval", tiny, "--protocol", "gridworld", *given)
    wrong, own = sorted(tmp_path.iterdir(), key=lambda path: "wrong" not in path.name)
    seen = [
        [r.images for r in EvaluationFolder(place).samples() if r.turn["number"] == 1]
        for place in (own, wrong)
    ]
    assert seen[1] == [*seen[0][1:], seen[0][0]]


def test_wrong_pictures_end_no_isolated_game(tiny, protocol, tmp_path, gmpo_vl):
    files = [protocol("Walk", {"isolate": isolate}, pictures="wrong") for isolate in (False, True)]
    found = []
    for k, file in enumerate(files):
        gmpo_vl("eval", tiny, "--protocol", file, "--out", tmp_path / str(k))
        [place] = (tmp_path / str(k)).iterdir()
        found.append(list(EvaluationFolder(place).samples()))
    assert found[0] == found[1]
    assert any(record.correct for record in found[0]), "games that are all lost show nothing"


# --- protocols ---
def test_the_grid_world_s_rows_are_the_same_everywhere(tmp_path):
    p = load_protocol("gridworld")
    export(tmp_path)
    examples = load_examples(str(tmp_path / Path(p.data).name), Columns())
    assert len(examples) == p.questions
    assert data_hash(examples, len(examples)) == p.data_sha256


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ({"max_turn": 3}, {}, "environment.max_turn is no key; did you mean max_turns"),
        ({"max_turns": 0}, {}, "environment.max_turns is 0, but must be greater than 0"),
        ({"max_turns": True}, {}, "environment.max_turns is True, but must be of type int"),
        ({"history_length": "two"}, {}, "environment.history_length is 'two', but must be of type int"),
        ({"template": 3}, {}, "must be of type str or null"),
        ({"settings": "view"}, {}, "environment.settings is 'view', but must be of type dict"),
        ({"name": None}, {}, "environment.name is missing"),
        ({}, {"grader": "strict"}, "grader is 'strict', but a game says itself whether it was won"),
        ({}, {"format_prompt": "boxed"}, "format_prompt is 'boxed', but the environment's template says"),
        ({}, {"benchmark": "math500"}, "benchmark is 'math500'"),
    ],
)
def test_a_protocol_that_no_game_can_be_played_by_is_refused(protocol, section, values, said):
    with pytest.raises(ValueError, match=said.replace("?", ".")):
        load_protocol(str(protocol("Walk", section, **values)))


def test_what_is_refused_before_a_model_is_loaded(tiny, protocol, tmp_path, gmpo_vl, monkeypatch):
    monkeypatch.setattr(answering, "load_backend", None)
    monkeypatch.chdir(tmp_path)

    def refused(*arguments) -> str:
        return gmpo_vl("eval", tiny, "--out", tmp_path / "out", *arguments, code=2)

    assert "a game says itself" in refused("--protocol", protocol("Walk"), "--grader", "strict")
    assert "no environment is called 'grid" in refused("--protocol", protocol("Walk", {"name": "gridword"}))
    path = protocol("Walk", {"settings": {"picture": False}})
    assert "did you mean pictures" in refused("--protocol", path)
    assert "data_prep/alfworld.py GAMES data/alfworld` writes them" in refused("--protocol", "alfworld")
    assert "data_prep/gridworld.py data/gridworld` writes it" in refused("--protocol", "gridworld")
    assert not (tmp_path / "out").exists()


def test_a_control_of_games_without_pictures_is_refused(tiny, protocol, tmp_path, gmpo_vl):
    path = protocol("Walk", {"settings": {"pictures": False}})
    said = gmpo_vl("eval", tiny, "--protocol", path, "--pictures", "blank", "--out", tmp_path, code=2)
    assert "no game of these shows a picture at first" in said


def test_a_protocol_states_every_key_of_its_environment_and_others_none(walk):
    stated = load_protocol(str(walk)).stated()
    assert stated["environment"].keys() == {
        *("name", "max_turns", "history_length", "template", "isolate", "settings")
    }
    assert override(load_protocol(str(walk)), {"n": 4}).name == "walk+n=4"
    assert "environment" not in load_protocol("geometry3k").stated()


def test_the_page_s_protocol_of_games_loads(tmp_path):
    page = (ROOT / "docs/add/protocol.md").read_text()
    text = page.partition("```yaml\n# my_games.yaml")[2].partition("```")[0]
    path = tmp_path / "my_games.yaml"
    path.write_text(text)
    found = load_protocol(str(path))
    assert (found.n, found.grader, found.environment["max_turns"]) == (4, "game", 10)
    assert found.environment["settings"] == {"largest": 50}


# --- a model in memory ---
def test_a_model_in_memory_plays_the_same_games(tiny, rows, whole_games, tmp_path):
    processor = load_processor(tiny)
    prompts = load_prompts(str(rows), PromptSettings(Columns(), max_prompt_length=400), processor)
    section = {"name": f"{GAMES}:Walk", "max_turns": 5, "history_length": 1}
    conditions = Conditions(Sampling(2, 6, 1.0), environment=section)
    found = evaluate(load_for_inference(tiny), prompts, conditions, tmp_path / "eval")
    stored = list(EvaluationFolder(whole_games).samples())
    assert found.records == stored
    assert found.questions == [f"row {i}" for i in range(8)]
    results, by_protocol = results_of(tmp_path / "eval"), results_of(whole_games)
    assert found.pass_at_1().value == results["pass@1"] == by_protocol["pass@1"]
    assert results["categories"] == by_protocol["categories"]
    assert results["settings"]["environment"] == by_protocol["settings"]["environment"]
    assert "profile" not in results["settings"]
    blank = evaluate(load_for_inference(tiny), prompts, replace(conditions, pictures="blank"))
    assert {record.images[0] for record in blank.records} == {""}, "no folder keeps no pictures"
    assert [r.prompt for r in blank.records[:1]] == [r.prompt for r in stored[:1]]
    assert [r.response for r in blank.records] != [r.response for r in stored]
