"""README and docs: links lead somewhere, references are whole, the site loads nothing from elsewhere."""

import importlib.util
import re
import subprocess
import sys

import pytest
from documents import DOCUMENTS, ROOT, anchors_of, commands_of, links_of, name_of

from gmpo_vl import API
from gmpo_vl.cli import build_parser
from gmpo_vl.config.schema import all_keys


@pytest.fixture(scope="module")
def pages():
    """docs/pages.py, as mkdocs loads it."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs/pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_files_and_headings_that_exist(document):
    for link in links_of(document):
        path, _, anchor = link.partition("#")
        there = document.parent / path if path else document
        assert there.exists(), link
        if anchor:
            assert anchor in anchors_of(there), link


def test_the_readme_s_commands_are_those_of_continuous_integration():
    run = (ROOT / ".ci/run").read_text()
    for target in ("make test", "make lint", "make docs"):
        assert re.search(rf"^(\w+=\S+ )?{target}$", run, re.MULTILINE), target
    shown = {
        command.text for name in ("README.md", "CONTRIBUTING.md") for command in commands_of(ROOT / name)
    }
    assert {"make test", "make lint", "make docs"} <= shown


def test_the_configuration_s_reference_has_every_key_and_its_comment(pages):
    text = pages.configuration_reference()
    for key in all_keys():
        section, _, name = key.rpartition(".")
        part = text.partition(f"\n## {section or 'the file itself'}\n")[2].partition("\n## ")[0]
        assert f"| `{name}` |" in part, key
    assert "tokens, image tokens included" in text
    assert "| `overlong_responses` | `score` | `score`, `mask`, `soft` | *ours*: What a response cut" in text
    assert "| `lr` | `1e-06` | number; must be 0 or greater |" in text
    assert "Both engines take only `grpo`, `grpo_no_std`" in text


def test_a_comment_is_found_behind_a_field_in_its_brackets_and_above_it(pages, tmp_path):
    (tmp_path / "schema.py").write_text(
        "class A:\n    x: int = 1  # behind\n    # above\n    # it\n"
        "    y: str = one_of(\n        'a'\n    )  # and behind\n    z: int = 2\n"
    )
    comments = pages.comments_of(tmp_path / "schema.py")
    assert comments == {("A", "x"): "behind", ("A", "y"): "above it and behind", ("A", "z"): ""}


def test_the_commands_reference_has_every_command(pages):
    text = pages.commands_reference()
    names = [name for name, _ in pages.commands_of(build_parser(), "gmpo-vl")]
    assert {"gmpo-vl train", "gmpo-vl eval compare", "gmpo-vl data check", "gmpo-vl demo"} <= set(names)
    for name in names:
        assert f"\n## {name}\n" in text
    assert "--rehearse" in text


def test_the_python_reference_has_every_name_with_its_signature(pages):
    text = pages.api_reference()
    for name in API:
        assert f"\n## {name}\n" in text
    assert "def verify_batch(golds: Sequence[GoldLike], responses: Sequence[str]" in text


def test_links_between_files_become_links_between_pages(pages):
    links = pages.Links()
    text = "[a](docs/data.md#x) [b](recipes/README.md) [c](gmpo_vl/types.py) [d](https://a.b) <a href='x'>"
    assert links.rewritten(text, "README.md") == (
        "[a](data.md#x) [b](recipes.md) [c](source/gmpo_vl/types.py.md) [d](https://a.b) <a href='x'>"
    )
    assert links.rewritten('<a href="../../gmpo_vl/data/">', "docs/add/data.md") == (
        '<a href="../source/gmpo_vl/data/index.html">'
    )
    assert links.rewritten("[e](../docs/evidence.md)", "recipes/README.md") == "[e](evidence.md)"
    assert links.outside == {"gmpo_vl/types.py", "gmpo_vl/data"}


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("material", reason="mkdocs-material is not installed: make docs")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        tmp_path / "site",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        loaded = re.findall(
            r'<(?:link|script|img|iframe)[^>]+(?:src|href)="?(https?:[^" >]+)', page.read_text()
        )
        assert not loaded, page
