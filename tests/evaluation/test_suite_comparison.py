"""Suites of results before and after training: one by one, corrected, with controls, on a page."""

import json
import re

import numpy as np
import pytest
from suite_folders import write_result

from gmpo_vl.cli import main
from gmpo_vl.evaluation.comparison import compare
from gmpo_vl.evaluation.statistics import holm, mean_difference, paired_difference, two_level_difference
from gmpo_vl.evaluation.suite_page import row_of
from gmpo_vl.evaluation.suites import compare_suites, how_to_measure, name_and_pictures, read_side

STEPS = [
    {
        "problem_id": f"p{i // 3}",
        "part": ("1", "2", "multi")[i % 3],
        "steps": 2,
        "step": ["one step", "one step", "two steps"][i % 3],
    }
    for i in range(90)
]


def right(share: float, questions: int = 90, n: int = 1, seed: int = 0) -> np.ndarray:
    """bool (questions, n): the first of a random order of the answers, so that a larger share has all of a
    smaller one's."""
    places = np.random.default_rng(seed).permutation(questions * n)
    return (places < share * questions * n).reshape(questions, n)


@pytest.fixture
def suites(tmp_path):
    """(before, after): three benchmarks, one of which gains, controls of one, and one more each."""
    for side, gain in (("before", 0.0), ("after", 0.3)):
        out = tmp_path / side
        write_result(out, "chartqa", right(0.4), [{"part": "human"}] * 90, model=side)
        write_result(out, "geoqa", right(0.3 + gain), model=side)
        write_result(out, "wemath", right(0.5 + gain / 10), STEPS, model=side)
        write_result(out, "geoqa", right(0.2), pictures="blank", model=side)
        write_result(out, "geoqa", right(0.1), pictures="wrong", model=side)
    write_result(tmp_path / "before", "geometry3k_choices", right(0.5), model="before")
    write_result(tmp_path / "after", "logicvista", right(0.5), [{"skill": "a", "capability": "b"}] * 90)
    return tmp_path / "before", tmp_path / "after"


def test_a_control_is_a_control_of_its_benchmark():
    assert name_and_pictures("mathvista") == ("mathvista", "as_is")
    assert name_and_pictures("mathvista+pictures=blank") == ("mathvista", "blank")
    assert name_and_pictures("mine+n=4,pictures=wrong,limit=20") == ("mine+n=4,limit=20", "wrong")
    assert name_and_pictures("mine+n=4,temperature=1") == ("mine+n=4,temperature=1", "as_is")


def test_each_benchmark_is_compared_as_alone_and_corrected_for_all(suites, gmpo_vl):
    before, after = suites
    found = compare_suites(read_side([before]), read_side([after]))
    assert [row.name for row in found.benchmarks] == ["chartqa", "geoqa", "wemath"]
    assert found.only == (["geometry3k_choices"], ["logicvista"])
    assert not found.refused
    alone = [compare([r.before[0].folder], [r.after[0].folder]).difference for r in found.benchmarks]
    assert [row.compared.difference for row in found.benchmarks] == alone
    assert [row.p_holm for row in found.benchmarks] == holm([d.p_value for d in alone])
    assert found.mean.value == pytest.approx(np.mean([d.estimate.value for d in alone]))

    said = gmpo_vl("eval", "compare", "--a", before, "--b", after)
    assert re.search(
        r"^geoqa +90 +30\.0 +60\.0 +\+30\.0 +\+2\d\.\d to \+\d\d\.\d +0\.0002 +0\.0006$", said, re.M
    )
    assert re.search(r"^mean of 3 benchmarks: b - a \+11\.\d points, 95% interval \+\d", said, re.M)
    assert "corrected for 3 benchmarks, by Holm's method" in said
    assert "only in a: geometry3k_choices\nonly in b: logicvista\n" in said
    assert "two checkpoints, not two methods" in said


def test_the_mean_of_benchmarks_has_the_interval_of_independent_ones():
    rng = np.random.default_rng(1)
    pairs = [(rng.random((1, q)) < 0.4, rng.random((1, q)) < 0.5) for q in (80, 300, 900)]
    errors = [(b.astype(float) - a)[0].std() / a.shape[1] ** 0.5 for a, b in pairs]
    found = mean_difference(pairs)
    half = 1.96 * np.hypot.reduce(errors) / 3
    assert found.value == pytest.approx(np.mean([b.mean() - a.mean() for a, b in pairs]))
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)
    alone = paired_difference(*(x[0].astype(float) for x in pairs[0]))
    one = mean_difference(pairs[:1])
    assert one.high - one.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_a_training_seed_is_drawn_once_for_all_benchmarks():
    """Seeds that gain the same on every benchmark leave the mean as uncertain as one benchmark."""
    of_seeds = np.array([-0.2, 0.0, 0.4])[:, None]
    pairs = [(np.full((3, 200), 0.5), 0.5 + of_seeds + np.linspace(-0.01, 0.01, 200)) for _ in range(4)]
    one = two_level_difference(*pairs[0]).estimate
    found = mean_difference(pairs)
    assert found.high - found.low == pytest.approx(one.high - one.low, rel=0.02)


def test_benchmarks_where_nothing_changes_do_not_make_the_mean_certain():
    same = np.ones((1, 20))
    found = mean_difference([(same, same), (same, same)])
    assert found.value == 0.0
    assert found.low == pytest.approx(-(1 - 0.025 ** (1 / 20)))


def test_training_seeds_are_folders_with_the_same_benchmarks(tmp_path, gmpo_vl):
    for side, share in (("a", 0.3), ("b", 0.5)):
        for seed in range(3):
            for name in ("geoqa", "geometry3k_choices"):
                write_result(tmp_path / f"{side}{seed}", name, right(share, seed=seed))
    sides = [[tmp_path / f"{side}{seed}" for seed in range(3)] for side in "ab"]
    command = ["eval", "compare", "--a", *sides[0], "--b", *sides[1]]
    said = gmpo_vl(*command)
    assert "3 and 3 training seeds, paired by question and seed" in said
    found = compare_suites(read_side(sides[0]), read_side(sides[1]))
    assert found.benchmarks[0].compared.a_SQ.shape == (3, 90)
    row = found.benchmarks[1]
    assert row.name == "geoqa"
    folders = [[stored.folder for stored in side] for side in (row.before, row.after)]
    assert compare(folders[0], folders[1]).difference == row.compared.difference

    (tmp_path / "b1" / "geoqa" / "results.json").unlink()
    said = gmpo_vl(*command, code=1)
    found = compare_suites(read_side(sides[0]), read_side(sides[1]))
    assert [row.name for row in found.benchmarks] == ["geometry3k_choices"]
    assert found.refused["geoqa"].startswith(f"geoqa is missing in {tmp_path / 'b1'}")


def test_another_setting_costs_its_benchmark_alone(suites, capsys):
    before, after = suites
    results = json.loads((after / "geoqa" / "results.json").read_text())
    results["settings"]["max_tokens"] = 64
    (after / "geoqa" / "results.json").write_text(json.dumps(results))
    assert main(["eval", "compare", "--a", str(before), "--b", str(after)]) == 1
    said = capsys.readouterr().out
    assert re.search(r"^not compared: geoqa: .*settings\.max_tokens is 4096 there and 64 now$", said, re.M)
    assert "corrected for 2 benchmarks" in said


def test_a_judged_result_counts_only_where_its_own_does_not(suites, gmpo_vl):
    for side in suites:
        beside = write_result(side, "geoqa", right(0.6), model=side.name, limit=90)
        results = json.loads(beside.results_file.read_text())
        judged = {"name": "geoqa+judge=gpt-1", "judge": {"of": "geoqa"}}
        beside.results_file.write_text(json.dumps({**results, **judged}))
    said = gmpo_vl("eval", "compare", "--a", suites[0], "--b", suites[1])
    assert "corrected for 3 benchmarks" in said
    assert "compared by rules: geoqa+judge=gpt-1; name two judged results" in said
    (suites[0] / "geoqa" / "results.json").unlink()
    page = suites[0].parent / "judged.html"
    said = gmpo_vl("eval", "compare", "--a", suites[0], "--b", suites[1], "--page", page)
    assert re.search(r"^geoqa\+judge=gpt-1 ", said, re.M)
    assert "only in b: geoqa" in said
    assert "left out" not in said
    assert "is judged: ask with blank pictures as geoqa was asked" in page.read_text()


def test_judged_results_that_are_named_are_compared(suites, gmpo_vl):
    for side, share in zip(suites, (0.2, 0.4)):
        beside = write_result(side, "geoqa", right(share), model=side.name, limit=90)
        results = json.loads(beside.results_file.read_text())
        judged = {"name": "geoqa+judge=gpt-1", "judge": {"of": "geoqa"}}
        beside.results_file.write_text(json.dumps({**results, **judged}))
    before, after = (read_side([side / "geoqa+limit=90"]) for side in suites)
    found = compare_suites(before, after)
    assert [row.name for row in found.benchmarks] == ["geoqa+judge=gpt-1"]
    assert found.mean.value == pytest.approx(0.2)
    assert not found.judged


def test_a_folder_twice_on_a_side_is_no_second_seed(suites, gmpo_vl):
    same = suites[0] / ".." / suites[0].name
    said = gmpo_vl("eval", "compare", "--a", suites[0], same, "--b", *suites, code=2)
    assert "one of them comes twice, and each is a training seed" in said


@pytest.mark.parametrize(
    ("change", "grader", "why"),
    [
        ({"questions": 91}, "overall", "count questions, too, that are not compared"),
        ({}, "paper", "by another grader than paper"),
        ({}, "official", "by another grader than official"),
    ],
)
def test_the_page_shows_no_counts_of_another_comparison(suites, change, grader, why):
    found = compare_suites(read_side([suites[0]]), read_side([suites[1]]))
    wemath = next(row for row in found.benchmarks if row.name == "wemath")
    assert row_of(wemath, "strict").counted
    wemath.after[0].results.update(change)
    row = row_of(wemath, grader)
    assert not row.counted + row.parts
    assert why in row.notes[-1]


def test_the_page_counts_by_the_harness_where_its_verdicts_are_compared(suites):
    found = compare_suites(read_side([suites[0]]), read_side([suites[1]]))
    wemath = next(row for row in found.benchmarks if row.name == "wemath")
    for side, value in ((wemath.before, 0.25), (wemath.after, 0.75)):
        side[0].results["official_aggregates"] = {"IK": {"value": value, "ci95": [0, 1], "units": 30}}
    (counted,) = row_of(wemath, "official").counted
    assert (counted.name, counted.gain, counted.units) == ("IK", 0.5, 30)
    geoqa = next(row for row in found.benchmarks if row.name == "geoqa")
    assert not row_of(geoqa, "paper").notes, "it counts nothing beside the mean over questions"


def test_a_share_that_one_seed_lacks_has_no_mean(tmp_path):
    sides = [[tmp_path / f"{side}{seed}" for seed in range(2)] for side in "ab"]
    for share, out in zip((0.2, 0.3, 0.4, 0.5), [*sides[0], *sides[1]]):
        write_result(out, "chartqa", right(share), [{"part": "human"}] * 90)
    (chartqa,) = compare_suites(read_side(sides[0]), read_side(sides[1])).benchmarks
    (human,) = row_of(chartqa).parts
    assert human.before == (pytest.approx(0.25), None)
    assert human.gain == pytest.approx(0.2)
    del chartqa.after[1].results["aggregates"]["part: human"]
    (human,) = row_of(chartqa).parts
    assert human.before == (pytest.approx(0.25), None)
    assert human.after is None
    assert human.gain is None


def test_the_mean_of_paired_seeds_draws_the_same_seeds_on_both_sides():
    """Seeds that differ widely in the same way on both sides cancel out where they are paired."""
    questions = np.tile([0.0, 1.0], 100)
    a_SQ = np.stack([questions * level for level in (0.2, 0.5, 0.8)])
    estimate = mean_difference([(a_SQ, a_SQ + 0.1 * questions)])
    assert estimate.value == pytest.approx(0.05)
    assert estimate.high - estimate.low < 0.05
    unpaired = mean_difference([(a_SQ, (a_SQ + 0.1 * questions)[:2])])
    assert unpaired.high - unpaired.low > 0.2


def test_nothing_in_common_is_an_error(tmp_path, gmpo_vl):
    for name in ("geoqa", "geometry3k_choices"):
        write_result(tmp_path / "a", name, right(0.5))
    for name in ("chartqa", "logicvista"):
        write_result(tmp_path / "b", name, right(0.5), [{"part": 1, "skill": 1, "capability": 1}] * 90)
    said = gmpo_vl("eval", "compare", "--a", tmp_path / "a", "--b", tmp_path / "b", code=2)
    assert "no benchmark can be compared: a has geometry3k_choices, geoqa; b has chartqa, logicvista" in said


def test_two_results_of_one_name_are_refused(suites):
    (suites[0] / "chartqa").rename(suites[0] / "copied")
    write_result(suites[0], "chartqa", right(0.4), [{"part": "human"}] * 90)
    with pytest.raises(ValueError, match="are both called chartqa"):
        read_side([suites[0]])


def test_what_the_pictures_are_worth_is_paired_by_question(suites):
    found = compare_suites(read_side([suites[0]]), read_side([suites[1]]), controls=True)
    needs = {row.name: row.needs for row in found.benchmarks}
    before, after = needs["geoqa"]["blank"]
    assert before.compared is not None
    assert after.compared is not None
    assert before.compared.difference.estimate.value == pytest.approx(0.1)
    assert after.compared.difference.estimate.value == pytest.approx(0.4)
    assert before.compared.difference.estimate.low > 0
    assert needs["chartqa"]["wrong"][1].missing == (
        f"gmpo-vl eval after --protocol chartqa --pictures wrong --out {suites[1]}"
    )


def test_a_control_of_another_model_measures_nothing(suites):
    write_result(suites[0], "geoqa", right(0.2), pictures="blank", model="other")
    found = compare_suites(read_side([suites[0]]), read_side([suites[1]]), controls=True)
    before, after = next(row.needs["blank"] for row in found.benchmarks if row.name == "geoqa")
    assert before.compared is None
    assert "is of another model than" in before.missing
    assert after.compared is not None


def test_the_command_for_a_control_repeats_what_was_set(tmp_path):
    write_result(tmp_path, "geoqa", right(0.5, n=2), limit=90)
    (stored,) = read_side([tmp_path]).seeds[0].values()
    said = how_to_measure(stored, "blank")
    assert said.startswith("gmpo-vl eval model --protocol geoqa ")
    assert {"--n 2", "--temperature 0.5", "--limit 90"} <= set(re.findall(r"--\w+ [\d.]+", said))


def test_the_page_has_a_row_a_benchmark_and_runs_nothing(suites, gmpo_vl, tmp_path):
    page = tmp_path / "pages" / "suite.html"
    said = gmpo_vl("eval", "compare", "--a", suites[0], "--b", suites[1], "--page", page)
    assert said.endswith(f"{page}\n")
    html = page.read_text()
    rows = {row[0]: row[1] for row in re.findall(r"<tr><th>(\w+)</th>(<td>90</td>.*?)</tr>", html, re.S)}
    assert list(rows) == ["chartqa", "geoqa", "wemath"]
    assert re.findall(r"<td>(\S\d+\.\d)<small>", rows["geoqa"]) == ["+10.0", "+20.0", "+40.0", "+50.0"]
    assert rows["chartqa"].count("<td>–</td>") == 4
    assert html.count("gmpo-vl eval after --protocol chartqa --pictures wrong --out ") == 1
    assert "score (strict)" in html, "what the benchmark counts"
    assert re.search(r"Better on <b class=\"up\">27</b> questions, worse on <b class=\"down\">0</b>", html)
    assert "<b>logicvista</b>: after alone" in html
    assert not re.search(r'(?:src|href)="(?!data:)', html)
    assert "html" in gmpo_vl(
        "eval", "compare", "--a", suites[0], "--b", suites[1], "--page", tmp_path / "page.json", code=2
    )


def test_single_results_have_a_page_with_the_controls_beside_them(suites, gmpo_vl, tmp_path):
    sides = ["--a", suites[0] / "geoqa", "--b", suites[1] / "geoqa"]
    plain = gmpo_vl("eval", "compare", *sides)
    assert plain.startswith("a 30.0   b 60.0   90 questions, 1 and 1 runs\n"), "without a page as ever"
    said = gmpo_vl("eval", "compare", *sides, "--page", tmp_path / "one.html")
    assert "mean of" not in said
    html = (tmp_path / "one.html").read_text()
    assert re.findall(r"<td>(\S\d+\.\d)<small>", html) == ["+10.0", "+20.0", "+40.0", "+50.0"]
