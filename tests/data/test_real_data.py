"""Every real data set at hand loads; the counts are those that the notes about them give."""

import itertools

import pytest

from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.images import decode_image, image_size

# source: (usable rows, pictures per row, refused rows by reason)
EXPECTED = {
    "geometry3k@train": (2014, 1, {}),
    "geometry3k@validation": (280, 1, {}),
    "geometry3k/test.parquet": (554, 1, {}),
    "geometry3k/original_diagram_10.parquet": (10, 1, {}),
    "mathvision_testmini": (304, 1, {}),
    "blindtest_counting": (477, 1, {}),
    "math_eval/evaluation_suite@aime": (30, 0, {}),
    "math_eval/evaluation_suite@amc": (83, 0, {}),
    "math_eval/evaluation_suite@math": (500, 0, {}),
    "math_eval/evaluation_suite@minerva": (272, 0, {}),
    "math_eval/evaluation_suite/olympiad_bench": (675, 0, {}),
    "math_train/gsm_8k@train": (8792, 0, {}),
    "math_train/rllm/aime.json": (975, 0, {}),
    "math_train/rllm/math.json": (7470, 0, {"empty_answer": 4}),
    "deepscaler": (9998, 0, {"empty_answer": 2}),
}


@pytest.mark.parametrize("source", EXPECTED)
def test_a_real_source_loads(source, data_dir):
    path = data_dir / source.partition("@")[0]
    if not path.exists():
        pytest.skip(f"no {path}")
    count, pictures, refused = EXPECTED[source]
    examples = load_examples(f"{data_dir}/{source}", on_bad_row="skip")
    print(
        f"{source}: {len(examples):,} of {examples.num_rows:,} rows, "
        f"refused: {examples.faults.counts() or 'none'}"
    )
    assert len(examples) == count
    assert examples.faults.counts() == refused
    for example in itertools.islice(examples, 0, None, max(1, count // 20)):
        assert len(example.images) == example.problem.count("<image>") == pictures
        assert example.answer == example.answer.strip() != ""
        for image in example.images:
            assert decode_image(image).size == image_size(image)


def test_answers_of_the_evaluation_sets_read_as_their_graders_expect(data_dir):
    if not (data_dir / "math_eval").is_dir():
        pytest.skip(f"no {data_dir / 'math_eval'}")
    answers = {
        name: [e.answer for e in load_examples(f"{data_dir}/math_eval/evaluation_suite@{name}")]
        for name in ("amc", "minerva", "olympiad_bench")
    }
    assert all(answer.lstrip("-").isdigit() for answer in answers["amc"])  # stored as 142.0
    assert sum(answer.startswith('{"gold": [') for answer in answers["minerva"]) == 75  # several alternatives
    assert not any(answer.startswith('["') for answer in answers["olympiad_bench"])
