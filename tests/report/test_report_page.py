"""The page carries everything with it, shows what its files say, and runs nothing that a model wrote."""

import base64
import dataclasses
import hashlib
import io
import json
import math
from html.parser import HTMLParser

import pytest
from PIL import Image

from gmpo_vl.report import write_report
from gmpo_vl.report.cards import before_and_after, choose, kind_of, plain_gold, spread, training_cards
from gmpo_vl.report.curves import curves
from gmpo_vl.runs import Run

HOSTILE = "</pre></script><script>alert(1)</script><img src=x onerror=alert(2)> & \\boxed{\"'7}"


class Page(HTMLParser):
    """Tags with their attributes, the text outside script and style, and the scripts."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts, self.inside = "", [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts.append(data)
        elif self.inside != "style":
            self.text += data

    def all(self, tag: str, css: str = "") -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag and (not css or css in (a.get("class") or "").split())]


def page_of(run: Run) -> Page:
    path = write_report(run.folder)
    assert path == run.folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def replace_first_record(run: Run, **changes) -> None:
    step = run.rollout_steps()[0]
    records = run.read_rollouts(step)
    run.write_rollouts(step, [dataclasses.replace(records[0], **changes), *records[1:]])


def test_page_asks_nothing_from_anywhere(run):
    page = page_of(run)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    style = (run.folder / "report.html").read_text().split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_only_our_script_may_run(run):
    replace_first_record(
        run, response=HOSTILE, prompt=HOSTILE, extracted=HOSTILE, gold=HOSTILE, outcome=HOSTILE
    )
    page = page_of(run)
    assert len(page.all("script")) == len(page.scripts) == 1
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert page.text.count(HOSTILE) == 5


def test_pictures_are_the_models_own(run):
    shown = page_of(run).all("img")
    assert shown
    for attributes in shown:
        data = base64.b64decode(attributes["src"].removeprefix("data:image/webp;base64,"))
        assert Image.open(io.BytesIO(data)).size == (112, 112)


def test_large_pictures_are_shown_smaller(run):
    noise = Image.effect_noise((800, 600), 80).convert("RGB")
    digest = run.add_image(noise)
    records = run.read_rollouts(1)
    run.write_rollouts(1, [dataclasses.replace(r, images=[digest]) for r in records])
    sizes = [
        Image.open(io.BytesIO(base64.b64decode(a["src"].split(",")[1]))).size for a in page_of(run).all("img")
    ]
    assert (560, 420) in sizes
    assert max(max(size) for size in sizes) == 560


def test_a_missing_picture_is_said(run):
    for path in (run.folder / "images").iterdir():
        path.unlink()
    page = page_of(run)
    assert not page.all("img")
    assert "picture missing" in page.text


def test_a_picture_outside_the_runs_folder_is_never_shown(run, png):
    """A run's folder may be somebody else's."""
    (run.folder.parent / "private.webp").write_bytes(png)
    records = run.read_rollouts(1)
    for name in ("../../private", str(run.folder.parent / "private"), "..", "a\0b"):
        run.write_rollouts(1, [dataclasses.replace(r, images=[name]) for r in records])
        assert base64.b64encode(png).decode() not in page_of(run).text
        assert not any(base64.b64encode(png).decode() in image["src"] for image in page_of(run).all("img"))


def test_headline_shows_before_after_interval_families_and_controls(run):
    text = " ".join(page_of(run).text.split())
    for shown in (
        "39.7%",
        "53.2%",
        "+13.5 points",
        "+9.3 to +17.7",
        "384 questions",
        "avg@16, built-in diagrams",
        "3:23 min",
    ):
        assert shown in text
    for shown in (
        "parallel lines",
        "+19.0",
        "−3.0",
        "another problem's picture",
        "6.0%",
        "cannot be told apart",
    ):
        assert shown in text


def test_evaluations_are_shown_with_their_interval(run, add_evaluation):
    add_evaluation(run, "geometry3k", 0.5, n=4)
    results = json.loads((run.folder / "eval/geometry3k/results.json").read_text())
    text = " ".join(page_of(run).text.split())
    low, high = results["ci95"]
    assert f"geometry3k{results['pass@1']:.1%}{low:.1%} to {high:.1%}204" in text.replace("> <", "")


def test_every_answer_of_a_shown_group_is_counted(run):
    cards = training_cards(run)
    assert {card.step for card in cards} == {1, 3, 5, 8, 10}
    for card in cards:
        records = [r for r in run.read_rollouts(card.step) if r.group == card.answers[0].record.group]
        assert (card.right, card.total) == (sum(r.correct for r in records), len(records))
        assert {a.record.response for a in card.answers} == {r.response for r in records}
    page = page_of(run)
    shown = [a for a in page.all("article", "card") if "data-step" in a]
    assert [(a["data-step"], a["data-kind"]) for a in shown] == [(str(c.step), c.kind) for c in cards]
    assert {c.kind for c in cards} >= {"triangle", "parallel lines"}


def test_before_and_after_shows_what_got_worse_too(run):
    pairs = before_and_after(run)
    assert pairs.labels == ("step 0", "step 10")
    logged = [r.id for r in run.read_rollouts(0, "validation")]
    assert [card.answers[0].record.id for card in pairs.cards] == logged[: len(pairs.cards)]
    for card in pairs.cards:
        assert [a.label for a in card.answers] == ["step 0", "step 10"]


def test_before_and_after_prefers_the_test_questions(run, add_evaluation):
    for name, share in (("before_greedy", 0.2), ("after_greedy", 0.8), ("before", 0.2), ("after", 0.8)):
        add_evaluation(run, name, share)
    pairs = before_and_after(run)
    assert pairs.labels == ("before", "after")
    assert "before_greedy" in pairs.what
    ids = [card.answers[0].record.id for card in pairs.cards]
    assert ids == [f"test-0-{i:05d}-{id.split('-')[-1]}" for i, id in enumerate(ids)]
    assert len(page_of(run).all("article", "pair")) == len(ids)
    assert all(picture for card in pairs.cards for picture in card.pictures)


def test_groups_of_every_kind_come_before_a_second_of_one(run):
    records = run.read_rollouts(1)
    groups = [[r for r in records if r.group == key] for key in dict.fromkeys(r.group for r in records)]
    many = [[dataclasses.replace(r, id=str(i)) for r in groups[0]] for i in range(5)]
    chosen = choose([*many, *groups[1:]], len(groups))
    assert len({kind_of(g[0]) for g in chosen}) == len(groups)


def test_spread_keeps_first_and_last():
    assert spread(list(range(1, 101)), 5) == [1, 26, 51, 75, 100]
    assert spread([3, 4], 5) == [3, 4]


@pytest.mark.parametrize(
    ("gold", "shown"),
    [
        ("60", "60"),
        ('{"gold": "60", "type": "integer"}', "60"),
        ('{"gold": ["a", "b"]}', "a or b"),
        ("{1, 2}", "{1, 2}"),
    ],
)
def test_gold_is_shown_as_a_person_reads_it(gold, shown):
    assert plain_gold(gold) == shown


@pytest.mark.parametrize("gone", ["summary.json", "config.yaml", "metrics.jsonl"])
def test_a_run_without_a_file_still_has_a_page(run, gone):
    (run.folder / gone).unlink()
    page = page_of(run)
    assert page.all("article", "card")
    if gone == "summary.json":
        assert "Validation accuracy" in page.text
        assert "Does it look" not in page.text


def test_a_run_that_has_just_begun_has_a_page(tmp_path):
    run = Run(tmp_path / "new").create()
    run.append_metrics(0, {"val/accuracy": 0.25})
    page = page_of(run)
    assert "25.0%" in page.text
    assert len(page.all("svg")) == 1


def test_text_only_rollouts_have_cards(run):
    records = run.read_rollouts(1)
    run.write_rollouts(1, [dataclasses.replace(r, images=[], prompt="What is 1 + 1?") for r in records])
    assert "What is 1 + 1?" in page_of(run).text


def test_a_long_response_shows_its_end_and_is_there_as_a_whole(run):
    whole = "Let x be the angle. " * 60 + "So \\boxed{60}"
    replace_first_record(run, response=whole)
    page = page_of(run)
    assert page.text.count(whole) == 1
    assert page.text.count(whole[-240:]) == 2


def test_several_pictures_keep_their_places(run):
    records = run.read_rollouts(1)
    two = [dataclasses.replace(r, images=r.images * 2, prompt="Is <image> like <image>?") for r in records]
    run.write_rollouts(1, two)
    assert "Is [picture 1] like [picture 2]?" in page_of(run).text


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a run's folder"):
        write_report(tmp_path)
    (tmp_path / "study.yaml").write_text("base: base.yaml")
    with pytest.raises(FileNotFoundError, match=r"is a study's folder.*report\.html"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("summary", "says"),
    [
        ({"before": 0.1}, "after is None"),
        ({"before": 0.1, "after": 0.2, "diff_ci95": 0.05}, "must be .low, high."),
        ([1], "not a JSON object"),
    ],
)
def test_a_broken_summary_names_file_and_key(run, summary, says):
    (run.folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ValueError, match=says) as caught:
        write_report(run.folder)
    assert "summary.json" in str(caught.value)


def test_a_curve_with_a_hole_says_so(run):
    lines = run.metrics_file.read_text().splitlines(keepends=True)
    run.metrics_file.write_text("".join([*lines[:4], *lines[6:]]))
    assert "has no line of step 4-5:" in write_report(run.folder).read_text()
    run.metrics_file.write_text("".join(lines))
    assert "has no line" not in write_report(run.folder).read_text()


def test_steps_that_come_twice_or_late_are_said(run, capsys):
    lines = run.metrics_file.read_text().splitlines(keepends=True)
    run.metrics_file.write_text("".join([*lines[:4], *lines[2:]]))
    said = f"{run.metrics_file}, line 5: step 2 again, as in line 3"
    assert f"{said}.</b>" in write_report(run.folder).read_text()
    assert f"WARNING: {said}\n" in capsys.readouterr().err
    run.metrics_file.write_text("".join([*lines[:2], lines[5], *lines[2:5]]))
    assert "line 4: step 2 after step 5" in write_report(run.folder).read_text()
    assert "and 1 more" not in capsys.readouterr().err
    run.metrics_file.write_text("".join(lines * 2))
    assert f"and {len(lines) - 3} more lines" in write_report(run.folder).read_text()


@pytest.mark.parametrize(
    "value",
    ["Infinity", "-Infinity", "NaN", "1e999", "1.7e308", "-1.7e308", "5e-324", "null", "1" + "0" * 400],
)
def test_a_page_can_be_made_whatever_a_figure_is(run, value):
    first, second, *others = run.metrics_file.read_text().splitlines()
    broken = (
        "{"
        + ", ".join(f"{json.dumps(key)}: {2 if key == 'step' else value}" for key in json.loads(others[0]))
        + "}"
    )
    run.metrics_file.write_text("\n".join([first, second, broken, *others[1:]]) + "\n")
    assert "Gradient norm" in write_report(run.folder).read_text()


DAMAGED = ("", "{", "[]", "null", "5", "[" * 100_000)


@pytest.mark.parametrize(
    "name", ["summary.json", "eval/before/results.json", "eval/before/timing.json", "config.yaml"]
)
def test_a_page_names_the_file_that_it_cannot_read(run, add_evaluation, name):
    add_evaluation(run, "before", 0.4)
    path = run.folder / name
    for content in DAMAGED if name != "config.yaml" else ("data: [1", "- a", "5", "\0"):
        path.write_text(content)
        with pytest.raises(ValueError, match=path.name):
            write_report(run.folder)


@pytest.mark.parametrize("value", [None, "x", math.nan, math.inf, [], {}, True, 10**400, [1]])
def test_a_page_names_the_figure_that_is_none(run, add_evaluation, value):
    add_evaluation(run, "before", 0.4)
    for name in ("summary.json", "eval/before/results.json"):
        path = run.folder / name
        content = json.loads(path.read_text())
        for key in set(content) & {
            "before",
            "greedy_after",
            "blank_image",
            "families",
            "pass@1",
            "ci95",
            "mean_length",
        }:
            if key == "families" and value == {}:
                continue
            path.write_text(json.dumps({**content, key: value}))
            with pytest.raises(ValueError, match=path.name):
                write_report(run.folder)
        path.write_text(json.dumps(content))


def test_a_run_that_went_on_with_another_reward_says_so_and_mixes_no_units(run):
    config = run.folder / "config.yaml"
    (run.folder / "config.until_step_000005.yaml").write_text(
        config.read_text().replace("reward_function: geometry3k", "reward_function: mine.py:hundred")
    )
    rows = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    for row in rows[:6]:  # of steps 0 to 5
        row.pop("reward/accuracy", None)
        row |= {key: 100 * row[key] for key in ("val/accuracy", "reward/overall") if key in row}
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = " ".join(page_of(run).text.split())
    assert "After step 5: worker.reward.reward_function mine.py:hundred → geometry3k." in text
    accuracy, score = rows[10]["val/accuracy"], [rows[step]["val/accuracy"] for step in (0, 5)]
    assert f"Validation accuracy{accuracy:.1%} → {accuracy:.1%}best {accuracy:.1%} at step 10" in text
    assert f"Validation score{score[0]:.3g} → {score[1]:.3g}best " in text
    assert "Each has its own figures and curves" in text
    drawn = [
        (chart.title, [point for line in chart.series for point in line.points]) for chart in curves(rows)
    ]
    titles = [title for title, _ in drawn]
    assert titles[:4] == ["Accuracy", "Reward", "Validation", "Reward"]
    for (_, points), steps in zip(drawn[:4], (range(6, 11), range(6, 11), range(6), range(6))):
        assert {x for x, _ in points} <= set(steps)


def test_former_settings_that_cannot_be_read_are_told(run):
    (run.folder / "config.until_step_000005.yaml").write_text("data: [1")
    text = page_of(run).text
    assert "After step 5: the settings until then cannot be read." in text
    assert "own figures and curves" not in text
