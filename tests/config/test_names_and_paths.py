"""Names and paths: what YAML makes a number or a switch of, what is empty, what no file system takes or
nobody can read.
"""

import pytest
from refusal import refusal

from gmpo_vl.config import load_config
from gmpo_vl.config.load import save_config
from gmpo_vl.config.schema import all_keys

READ_OTHERWISE = (
    "1e3",
    "on",
    "off",
    "yes",
    "true",
    "1.5",
    "42",
    "007",
    "0x10",
    "1_000",
    "12:30",
    ".inf",
    "-0",
    "1.",
)
TEXT = [name for name, key in all_keys().items() if key.type in (str, str | None)]


@pytest.mark.parametrize("value", READ_OTHERWISE)
def test_text_that_yaml_takes_for_something_else_is_not_taken_as_what_it_became(write, value):
    path = write()
    for key in ("trainer.experiment_name", "trainer.save_checkpoint_path"):
        said = refusal(path, f"{key}={value}")
        assert f"{key} is " in said
        assert "as YAML reads it, but must be text: put it in quotes" in said
        section, name = key.split(".")
        path.write_text(path.read_text() + f"{section}: {{{name}: {value}}}\n")
        assert "as YAML reads it" in refusal(path)
        path = write()
    assert load_config(path, [f'trainer.experiment_name="{value}"']).trainer.experiment_name == value


def test_every_key_that_is_text_is_asked_so(write):
    assert len(TEXT) > 30
    path = write()
    for key in TEXT:
        said = refusal(path, f"{key}=1e3", f"{key}=on")
        assert f"{key} is 1000.0 as YAML reads it, but must be text" in said
        assert f"{key} is True as YAML reads it, but must be text" in said


def test_a_saved_name_reads_as_it_was(write, tmp_path):
    for name in (*READ_OTHERWISE, "~", "null", "2024-01-01"):
        save_config(load_config(write(), [f'trainer.experiment_name="{name}"']), tmp_path / "saved.yaml")
        assert load_config(tmp_path / "saved.yaml").trainer.experiment_name == name


@pytest.mark.parametrize(
    "key",
    [
        "trainer.save_checkpoint_path",
        "trainer.load_checkpoint_path",
        "trainer.ray_timeline",
        "data.image_dir",
        "data.format_prompt",
        "data.override_chat_template",
        "worker.actor.model.model_path",
        "worker.actor.model.tokenizer_path",
    ],
)
def test_an_empty_path_is_no_path(write, key):
    for empty in ("", " ", "\t"):
        assert f"override '{key}={empty}' sets nothing".replace("\t", "\\t") in refusal(
            write(), f"{key}={empty}"
        )
    for empty in ('""', "' '", '"\\t"'):
        assert f"{key} is " in (said := refusal(write(), f"{key}={empty}"))
        assert "an empty path names nothing; null" in said
    if "model_path" not in key:
        load_config(write(), [f"{key}=null"])


def test_no_validation_may_be_said_with_nothing(write):
    assert load_config(write(), ["data.val_files="]).data.val_files == ""


@pytest.mark.parametrize(
    "key", ["trainer.save_checkpoint_path", "trainer.load_checkpoint_path", "data.image_dir"]
)
@pytest.mark.parametrize("path", ["~/runs", "~/", "~no_such_user/x"])
def test_a_home_folder_that_no_shell_has_written_out_is_told(write, monkeypatch, key, path):
    monkeypatch.setenv("HOME", "/home/somebody")
    written = {"~/runs": "/home/somebody/runs", "~/": "/home/somebody/"}.get(path, path)
    assert f"only a shell knows what ~ is, at the start of a word: {written}" in refusal(
        write(), f"{key}={path}"
    )


@pytest.mark.parametrize(
    "name",
    [
        "a\u202eb",
        "a\u200bb",
        "\u2066x",
        "a\u00adb",
        "x\u200e",
        "a\x01b",
        "x" * 256,
        "x" * 300,
        "\u00fc" * 128,
        "\u5b9f" * 86,
        f"a/{'x' * 256}/b",
        "/".join(["x" * 200] * 30),
    ],
    ids=lambda name: ascii(name[:9]),
)
def test_what_no_folder_can_be_called(write, name):
    for key, said in (
        ("experiment_name", "a run needs a name"),
        ("save_checkpoint_path", "no file can be called that"),
    ):
        message = refusal(write(trainer={key: name}))
        assert f"trainer.{key} is" in message
        assert said in message
        assert message.replace("\n", "").isprintable()
        assert len(message) < 800


@pytest.mark.parametrize(
    "name", ["x" * 255, "\u00fc" * 127, "a/" * 100 + "b", "\u05e9\u05dc\u05d5\u05dd", "e\u0301", "\U0001f40d"]
)
def test_what_a_folder_can_be_called(write, tmp_path, name):
    assert load_config(write(trainer={"experiment_name": name})).trainer.experiment_name == name
    (tmp_path / "runs" / name).mkdir(parents=True)
