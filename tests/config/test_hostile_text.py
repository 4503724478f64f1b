"""Whatever a file or an override says, the answer is a sentence: no traceback, no end of the interpreter."""

import pytest
from refusal import refusal

from gmpo_vl.config import load_config
from gmpo_vl.storage.yaml_text import MAX_NODES, YamlError, read_yaml

MANY = 50_000
NINES = "9" * 400
LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghijklmnopq", "bcdefghijklmnopqr")
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x: " + "[" * MANY, "nested more than 50 deep"),
        ("x: " + "[" * MANY + "]" * MANY, "nested more than 50 deep"),
        ("x: " + "{a: " * MANY, "nested more than 50 deep"),
        ("- " * MANY + "1", "nested more than 50 deep"),
        ("? " * MANY + "1", "nested more than 50 deep"),
        ("\n".join(" " * i + f"k{i}:" for i in range(300)), "line 51 is nested more than 50 deep"),
        (LAUGHS, f"more than {MAX_NODES:,} values"),
        ("a: &a [*a]", "stands inside itself"),
        ("a: &a\n  <<: *a", "stands inside itself"),
        ("written: 5", "written is 5, but lists the keys"),
        ("written: [[1]]", "written is [[1]], but lists the keys"),
        ("written: {a: 1}", "but lists the keys"),
        ("base: [a]", "base is ['a'], but must be the path"),
        ("base: 5", "base is 5, but must be the path"),
        ('base: "a\\0b"', "base: the text holds a NUL"),
        ("base: " + "a" * 5000, "cannot be read"),
        ("base: .", "cannot be read"),
        ('trainer: {max_steps: "???"}', "trainer.max_steps is ???"),
        ("trainer:\n  experiment_name: ???", "trainer.experiment_name is ???"),
        ("trainer:\n  logger: [file, '???']", "trainer.logger is ???"),
        ("trainer: ???", "trainer is a section"),
        (f"data: {{seed: {NINES}}}", "data.seed: a whole number of 1,329 bits is too large"),
        (f"data: {{seed: -{NINES}}}", "too large"),
        (f"algorithm: {{gamma: {NINES}}}", "algorithm.gamma: a whole number of"),
        (f"data: {{seed: {'9' * 5000}}}", "cannot be read as YAML"),
        (f"data: {{seed: 0x{'f' * 5000}}}", "too large"),
        (f"worker: {{reward: {{reward_function_kwargs: {{a: [{NINES}]}}}}}}", "reward_function_kwargs.a"),
        ("worker: {actor: {optim: {betas: [[1], 2]}}}", "must be a list of numbers"),
        ("x: !!int foo", "cannot be read as YAML"),
        ("x: !!bool foo", "cannot be read as YAML"),
        ('x: !!float ""', "cannot be read as YAML"),
        ("x: !!timestamp foo", "cannot be read as YAML"),
        ("x: !!python/object/apply:os.system [id]", "cannot be read as YAML"),
        ("? [a, b]\n: 1", "cannot be read as YAML"),
        ("<<: 5", "cannot be read as YAML"),
        ('trainer: {experiment_name: "${nothing}"}', "Interpolation key 'nothing' not found"),
        ('trainer: {experiment_name: "a\\0b"}', "experiment_name: the text holds a NUL"),
        (f"trainer: {{load_checkpoint_path: {'a' * 6000}}}", "no such file or folder"),
        ("trainer: {load_checkpoint_path: ~nobody-of-that-name/x}", "no such file or folder"),
        (
            f'worker: {{actor: {{model: {{lora: {{exclude_modules: "{"(" * MANY}"}}}}}}}}',
            "no regular expression",
        ),
        ("\n".join(f"k{i}: 1" for i in range(3000)), "and 2,980 more"),
        ("- a\n- b", "holds a list"),
        ("5", "cannot be read as YAML"),
    ],
    ids=lambda value: value[:30].replace("\n", " "),
)
def test_a_file(text, said, tmp_path):
    (tmp_path / "run.yaml").write_text(text)
    message = refusal(tmp_path / "run.yaml")
    assert said in message
    assert len(message) < 5000


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("x=" + "[" * MANY, "nested more than 50 deep"),
        (".".join("a" * MANY) + "=1", "no key has so many parts"),
        ("a[" * MANY + "=1", "no key has so many parts"),
        ("worker.rollout.n=???", "worker.rollout.n is ???"),
        ("worker.rollout.val_override_config.n=???", "val_override_config is ???"),
        (f"worker.rollout.n={NINES}", "worker.rollout.n: a whole number of 1,329 bits"),
        ("worker.rollout.n=" + "9" * 5000, "cannot be read"),
        (f"algorithm.kl_horizon={NINES}", "too large"),
        ("worker.rollout.n=!!int foo", "cannot be read"),
        ("worker.rollout.n=*a", "cannot be read"),
        ("worker.rollout.n=${x}", "cannot be read"),
        ("trainer.experiment_name=\ud800", "cannot be read"),
        ("worker.rollout.val_override_config=" + "{a: " * 400 + "}" * 400, "nested more than 50 deep"),
        ("=1", "sets nothing"),
    ],
    ids=lambda value: ascii(value[:30]),
)
def test_an_override(override, said, write):
    message = refusal(write(), override)
    assert said in message
    assert len(message) < 5000


def test_bytes_that_are_no_text(tmp_path):
    for content in (b"\xff\xfe", b"a: \x80", b"\0\0\0"):
        (tmp_path / "run.yaml").write_bytes(content)
        assert "cannot be read" in refusal(tmp_path / "run.yaml")


def test_a_long_chain_of_bases_ends(tmp_path):
    for i in range(3000):
        (tmp_path / f"{i}.yaml").write_text(f"base: {i + 1}.yaml")
    assert "name each other as `base`" in refusal(tmp_path / "0.yaml")


def test_anchors_and_the_largest_numbers_stay_good(write):
    assert load_config(write(), ["data.seed=9223372036854775807"]).data.seed == 2**63 - 1
    assert read_yaml("a: &a [1, 2]\nb: *a\nc: [*a, *a]") == {"a": [1, 2], "b": [1, 2], "c": [[1, 2], [1, 2]]}
    with pytest.raises(YamlError, match="too large"):
        read_yaml("9223372036854775808")
