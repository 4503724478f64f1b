"""Verdicts on differences whose truth is known."""

import json

import numpy as np
import pytest

from gmpo_vl.evaluation.statistics import (
    MeasuredDifference,
    crossed_difference,
    detectable,
    difference_over_seeds,
    holm,
    t_quantile,
    t_tail,
)
from gmpo_vl.study.declaration import StudyError, read_study
from gmpo_vl.study.grid import make_plan
from gmpo_vl.study.phases import open_study, write_findings
from gmpo_vl.study.verdicts import detectable_before, held_out_verdicts, quantity_verdicts

PRIMARY = {"kind": "primary", "margin": 0.02, "assumed_deviation": 0.02, "test_files": "test.parquet"}


@pytest.fixture
def declared(write_study):
    return lambda **changes: read_study(write_study(**{**PRIMARY, **changes}))


def crossed(generator, truth, seeds=6, questions=60, deviations=(0.05, 0.2, 0.3)):
    """(a, b), whose difference is the truth + an effect of the seed + one of the question + what is left."""
    of_seed, of_question, left = deviations
    gains_SQ = truth + generator.normal(0, of_seed, (seeds, 1)) + generator.normal(0, of_question, questions)
    a_SQ = generator.normal(0, 1, (seeds, questions))
    return a_SQ, a_SQ + gains_SQ + generator.normal(0, left, (seeds, questions))


def test_tails_are_the_printed_ones_and_agree_with_quantiles():
    assert t_tail(2.228, 10) == pytest.approx(0.025, abs=1e-5)
    assert t_tail(-2.228, 10) == pytest.approx(0.975, abs=1e-5)
    assert t_tail(0.0, 3) == 0.5
    assert t_quantile(19, 0.95) == pytest.approx(1.729, abs=1e-3)
    assert t_tail(t_quantile(4, 0.8), 4) == pytest.approx(0.2)


def test_an_interval_and_its_p_values_agree():
    d = MeasuredDifference(0.03, 0.01, 7)
    assert d.interval(1 - d.p_value())[0] == pytest.approx(0, abs=1e-9)
    margin = d.interval(0.9)[1]
    assert d.p_equivalence(margin) == pytest.approx(0.05)
    assert d.p_equivalence(0.03) == 0.5
    assert d.p_equivalence(0.02) > 0.5


@pytest.mark.parametrize("deviations", [(0.05, 0.2, 0.3), (0.1, 0.0, 0.3), (0.0, 0.3, 0.3), (0.0, 0.0, 0.5)])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(deviations):
    """At least 95%; more where what differs is not the seeds, whose number sets the degrees of freedom."""
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(600):
        low, high = crossed_difference(*crossed(generator, 0.1, deviations=deviations)).interval(0.95)
        held += low <= 0.1 <= high
    assert 0.93 < held / 600 <= 1.0
    if deviations[1] == 0 < deviations[0]:
        assert held / 600 < 0.975


def test_the_variance_of_a_crossed_design_is_without_bias():
    generator = np.random.default_rng(2)
    found = [crossed_difference(*crossed(generator, 0.0)) for _ in range(600)]
    truth = 0.05**2 / 6 + 0.2**2 / 60 + 0.3**2 / 360
    assert np.mean([d.error**2 for d in found]) == pytest.approx(truth, rel=0.06)
    assert np.var([d.value for d in found]) == pytest.approx(truth, rel=0.12)


def test_a_difference_that_can_be_detected_is_found_4_times_in_5():
    generator = np.random.default_rng(3)
    truth = detectable(0.05 / 8**0.5, 7)
    found = [difference_over_seeds(generator.normal(truth, 0.05, 8)).p_value() <= 0.05 for _ in range(1500)]
    assert 0.77 < np.mean(found) < 0.85


def test_equivalence_at_the_margin_is_said_no_more_often_than_5_percent():
    generator = np.random.default_rng(4)
    said = [crossed_difference(*crossed(generator, 0.1)).p_equivalence(0.1) <= 0.05 for _ in range(600)]
    assert 0.01 < np.mean(said) < 0.075
    inside = [crossed_difference(*crossed(generator, 0.0)).p_equivalence(0.3) <= 0.05 for _ in range(100)]
    assert np.mean(inside) > 0.95


def test_holms_correction_by_hand():
    """0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1 is no smaller than the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_too_few_to_vary_is_an_error_and_no_variance_is_not():
    with pytest.raises(ValueError, match="1 seeds and 5 questions"):
        crossed_difference(np.zeros((1, 5)), np.ones((1, 5)))
    same = crossed_difference(np.ones((3, 10)), np.ones((3, 10)))
    assert (same.value, same.error, same.p_value()) == (0.0, 1 / 30, 1.0)


def planted(gain, spread=0.004, seeds=8, questions=50):
    """(a, b) with a mean difference of exactly `gain`."""
    gains_SQ = np.random.default_rng(5).normal(0, spread, (seeds, questions))
    return np.zeros((seeds, questions)), gains_SQ - gains_SQ.mean() + gain


def first_verdict(study, tested):
    verdict = held_out_verdicts(study, tested)[0]
    assert verdict is not None
    return verdict


@pytest.mark.parametrize(
    ("gain", "spread", "words"),
    [
        (0.05, 0.01, ["seen"]),
        (-0.05, 0.01, ["opposite"]),
        (0.0, 0.01, ["equivalent"]),
        (0.01, 0.01, ["seen", "equivalent"]),
        (-0.01, 0.01, ["opposite", "equivalent"]),
        (0.0, 1.0, ["inconclusive"]),
        (0.05, 1.0, ["inconclusive"]),
    ],
)
def test_the_verdicts_of_a_primary_study(declared, gain, spread, words):
    study = declared(updates={"u2": ["worker.actor.global_batch_size=4"]})
    found = first_verdict(study, [planted(gain, spread)])
    assert found["verdict"] == words
    assert found["low"] < found["value"] < found["high"]
    assert (found["low"] > 0) == ("seen" in words)
    assert (-0.02 < found["low_90"] < found["high_90"] < 0.02) == ("equivalent" in words)
    lower = declared(updates=study.updates, expect={"test": "lower"})
    turned = first_verdict(lower, [planted(gain, spread)])
    swap = {"seen": "opposite", "opposite": "seen"}
    assert turned["verdict"] == [swap.get(word, word) for word in words]


def test_an_exploratory_study_goes_by_the_corrected_p_values(declared):
    one = planted(0.01, 0.055)
    methods = {name: ["worker.actor.loss_type=gmpo"] for name in ("base", "a", "b", "c")}
    updates = {"u2": []}
    primary = declared(margin=0.03, methods=methods, updates=updates)
    alone = first_verdict(primary, [one, None, None])
    assert alone["verdict"] == ["seen", "equivalent"]
    assert held_out_verdicts(primary, [one, None, None])[1:] == [None, None]
    study = declared(kind="exploratory", margin=0.03, methods=methods, updates=updates, tuning_seeds=[1])
    found = first_verdict(study, [one, None, None])
    assert found["p"] == alone["p"] <= 0.05 < found["p_holm"] == pytest.approx(3 * found["p"])
    assert found["p_equivalence_holm"] == pytest.approx(3 * found["p_equivalence"])
    assert found["verdict"] == ["equivalent"]
    assert found["detectable"] > alone["detectable"]


def test_expected_quantities_are_corrected_over_all_of_them(declared):
    study = declared(expect={"entropy": "higher", "kl_to_start": "lower", "test": "higher"})
    up, down, none = ([0.3, 0.31, 0.29], [-0.3, -0.31, -0.29], [0.3, -0.3, 0.01])

    def row(entropy, kl):
        values = {"entropy": entropy, "kl_to_start": kl}
        return {"quantities": {k: {"value": float(np.mean(v)), "values": v} for k, v in values.items()}}

    first, second = quantity_verdicts(study, [row(up, down), row(down, none)])
    assert [first[key]["verdict"] for key in ("entropy", "kl_to_start")] == ["seen", "seen"]
    assert [second[key]["verdict"] for key in ("entropy", "kl_to_start")] == ["opposite", "inconclusive"]
    assert first["entropy"]["p_holm"] == pytest.approx(4 * first["entropy"]["p"])
    assert quantity_verdicts(study, [{"quantities": {}}]) == [{}]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "main"}, "must be primary or exploratory"),
        ({"tuning_seeds": [1]}, "a primary study needs 2"),
        ({"margin": None}, "needs margin"),
        ({"margin": 0}, "margin is 0, but must be a number above 0"),
        ({"assumed_deviation": None}, "needs assumed_deviation"),
        ({"test_files": None}, "needs test_files"),
        ({"expect": {"entropy": "more"}}, "higher or lower"),
        (
            {"expect": {"entropie": "higher"}},
            r"expect names entropie; did you mean entropy\?; there are test, entropy",
        ),
        ({"expect": {"acuracy_gap": "higher"}}, r"did you mean accuracy_gap\?"),
        ({"kind": None}, "margin has no use without kind"),
    ],
)
def test_declarations_without_a_verdict_are_refused(declared, changes, sentence):
    with pytest.raises(StudyError, match=sentence):
        declared(**changes)


def test_a_margin_is_a_share_where_the_reward_returns_accuracy(declared, tmp_path):
    for key in ("margin", "assumed_deviation"):
        with pytest.raises(
            StudyError, match=f"{key} is 2, but is a share of right answers: 0.02 is 2 points"
        ):
            make_plan(declared(**{key: 2}), "")
    (tmp_path / "own.py").write_text(
        "def score(reward_inputs): return [{'overall': 100.0} for _ in reward_inputs]"
    )
    own = [f"worker.reward.reward_function={tmp_path / 'own.py'}:score"]
    assert make_plan(declared(margin=2, assumed_deviation=3, overrides=own), "")["study"]["margin"] == 2


def test_the_plan_says_the_rules_and_what_can_be_detected(declared, write_study):
    plan = make_plan(declared(extend=1, expect={"entropy": "higher"}), "")
    assert set(plan["rules"]) == {"tuning", "extend", "primary", "expect"}
    assert plan["detectable"] == pytest.approx((t_quantile(2) + t_quantile(2, 0.8)) * 0.02 / 3**0.5)
    assert plan["study"]["margin"] == 0.02
    exploratory = declared(kind="exploratory")
    assert (detectable_before(exploratory) or 0) > plan["detectable"]
    plain = make_plan(read_study(write_study()), "")
    assert not {"rules", "detectable"} & set(plain)
    assert not {"extend", "kind", "margin", "assumed_deviation", "expect"} & set(plain["study"])
    json.dumps(plan)


@pytest.mark.parametrize("kind", ["primary", "exploratory"])
@pytest.mark.parametrize("expect", [{}, {"test": "lower"}, {"test": "lower", "entropy": "higher"}])
def test_a_study_with_verdicts_has_a_page_before_its_first_run(declared, tmp_path, kind, expect):
    study = declared(kind=kind, expect=expect)
    folder = open_study(tmp_path / "out", "", make_plan(study, ""))
    write_findings(study, folder)
    page = folder.page_file.read_text()
    assert "Held-out difference" in page
    assert ("Other quantities" in page) == ("entropy" in expect)
