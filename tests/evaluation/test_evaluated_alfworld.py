"""ALFWorld's protocols through `gmpo-vl eval`: categories, Table 6, pinned data."""

import json
import runpy
import tarfile
from pathlib import Path

import pytest
import torch

from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.rows import Columns
from gmpo_vl.evaluation import answering
from gmpo_vl.evaluation.prepare import data_hash
from gmpo_vl.evaluation.protocols import load_protocol
from gmpo_vl.rollout.seeds import sample_seed
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import episodes
from gmpo_vl.types import Group, Response

ROOT = Path(__file__).parents[2]
HOUSE = {
    "start": -1,
    "receptacles": [["drawer 1", "drawer", 0, "o"], ["sink 1", "sink", 3, ""]],
    "objects": [["desklamp 1", [1], [3], "t"], ["knife 1", [1], [3], "pc"]],
    "within": [],
    "fits": {"drawer": "knife", "sink": "knife"},
}
WAY = [
    "go to sink 1",
    "take knife 1 from sink 1",
    "go to drawer 1",
    "open drawer 1",
    "move knife 1 to drawer 1",
]
GOALS = {
    "Pick": ["pick_and_place_simple", "knife", "drawer"],
    "Look": ["look_at_obj_in_light", "knife", "desklamp"],
}


@pytest.fixture(scope="module")
def household(tmp_path_factory) -> Path:
    """Twelve games to pick, three to look."""
    path = tmp_path_factory.mktemp("household") / "valid_seen.jsonl"
    kinds = ["Pick"] * 12 + ["Look"] * 3
    texts = [
        {
            "problem": "put a knife in drawer.",
            "answer": ", ".join(WAY),
            "id": f"{kind}-{i}",
            "category": kind,
            "game": json.dumps(HOUSE | {"goal": GOALS[kind]}),
        }
        for i, kind in enumerate(kinds)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in texts))
    return path


def knows_the_way(*_):
    """A backend that says the walkthrough's commands in the right form, but `look` where it is to look."""

    def answer(prompts, sampling, *, progress):
        groups = []
        for prompt in prompts:
            name = prompt.example.id
            turn = int(name.split("\x1f")[2]) if "\x1f" in name else 1
            text = f"<think>So.</think><action>{WAY[(turn - 1) % 5]}</action>"
            text = "look" if name.startswith("Look") else text
            responses = [
                Response(
                    torch.tensor([1]), torch.zeros(1), text, True, sample_seed(sampling.seed, name, 0, k)
                )
                for k in range(sampling.n)
            ]
            groups.append(Group(f"{name}@0", prompt, responses))
        return groups

    return answer


@pytest.fixture(scope="module")
def alfworld_result(tiny, household, tmp_path_factory) -> Path:
    from gmpo_vl.cli import main

    out = tmp_path_factory.mktemp("alfworld")
    command = ["eval", tiny, "--protocol", "alfworld_seen", "--data", household, "--n", 3, "--out", out]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(answering, "load_backend", knows_the_way)
        assert main([str(argument) for argument in command]) == 0
    return out / "alfworld_seen+n=3,data=valid_seen"


def test_alfworld_s_figures_by_category_with_their_intervals(alfworld_result):
    results = json.loads((alfworld_result / "results.json").read_text())
    assert (results["pass@1"], results["questions"], results["n"]) == (0.8, 15, 3)
    pick, look = results["categories"]["Pick"], results["categories"]["Look"]
    assert (pick["value"], pick["games"]) == (1.0, 12)
    assert pick["ci95"] == [pytest.approx(0.025 ** (1 / 12)), 1.0]
    assert look == {"value": 0.0, "ci95": None, "games": 3}
    turns = (12 * 5 + 3 * 50) / 15
    assert results["episode"]["turns"] == turns
    assert results["episode"]["cut"] == 0.2
    assert results["episode"]["valid"] == pytest.approx(12 * 5 / (15 * turns))
    assert results["reward"] == {"overall": 8.0, "accuracy": 0.8}
    won = [turns for turns in episodes(EvaluationFolder(alfworld_result).samples()) if turns[-1].correct]
    assert [record.turn["reward"] for record in won[0]] == [0, 0, 0, 0, 10]
    assert [record.turn["action"] for record in won[0]] == WAY
    assert won[0][3].prompt.count("Done:") == 2, "two turns of history"
    lost = list(EvaluationFolder(alfworld_result).samples())[-1]
    assert (lost.turn["number"], lost.turn["penalty"], lost.turn["ending"]) == (50, 0.1, "cut")


def test_table_6_stands_beside_the_published_rows(alfworld_result, gmpo_vl):
    said = gmpo_vl("eval", "table", alfworld_result)
    rows = {line.split("  ")[0]: line.split() for line in said.splitlines()}
    assert rows["GMPO-1.5B"][1:] == ["93.1", "78.6", "81.0", "88.2", "82.1", "89.5", "85.9"]
    assert rows["GRPO-1.5B"][-1] == "72.8"
    [ours] = [line for line in said.splitlines() if "alfworld_seen+n=3" in line and "[" in line]
    cells = ours.rpartition("valid_seen")[2].split()
    assert cells[0].startswith("100.0±")
    assert cells[1:6] == ["0.0", "-", "-", "-", "-"]
    assert cells[6].startswith("80.0±")
    assert "the data is not the protocol's" in said
    assert "Geometry3K" not in said


def test_the_page_of_text_games_has_their_categories(alfworld_result):
    page = (alfworld_result / "result.html").read_text()
    assert page.count("<h2>By category</h2>") == 1
    assert "too few" in page
    assert "cut at the last turn" in page
    assert "15 of 15 games" in page


def test_the_shipped_protocols_name_their_data_by_its_hash(tmp_path, data_dir):
    script = runpy.run_path(str(ROOT / "data_prep/alfworld.py"))
    for name in ("alfworld_seen", "alfworld_unseen"):
        p = load_protocol(name)
        archive = data_dir / f"alfworld_games/{Path(p.data).stem}.tar.xz"
        if not archive.is_file():
            pytest.skip(f"no games at {archive}")
        with tarfile.open(archive) as games:
            games.extractall(tmp_path, filter="data")
        assert (p.temperature, p.n, p.max_tokens, p.max_prompt_tokens) == (0.4, 1, 512, 2048)
        assert (p.environment["max_turns"], p.environment["history_length"]) == (50, 2)
    script["main"]([str(tmp_path), str(tmp_path / "rows")])
    for name, count in (("alfworld_seen", 140), ("alfworld_unseen", 134)):
        p = load_protocol(name)
        examples = load_examples(str(tmp_path / "rows" / Path(p.data).name), Columns())
        assert (len(examples), p.questions) == (count, count)
        assert data_hash(examples, count) == p.data_sha256
        assert {e.meta["category"] for e in examples} == {"Pick", "Look", "Clean", "Heat", "Cool", "Pick2"}
