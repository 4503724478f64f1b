"""The page of models says what the tests are run on."""

import pytest
import transformers
from families.table import FIRST, NAMES, PAGE, in_4_57, table, written
from families.tiny import FAMILIES as OTHERS
from tiny_families import FAMILIES as QWEN

from gmpo_vl.models.compat import TRANSFORMERS_5
from gmpo_vl.models.shared import KNOWN


def test_the_page_is_as_the_tests_are():
    text = PAGE.read_text(encoding="utf-8")
    assert text == written(text), "write it anew: cd tests && python -m families.table"
    assert table() in text


def test_every_known_kind_is_run_on_and_every_kind_that_is_run_on_is_there():
    assert {*QWEN, *FIRST} == KNOWN
    assert set(NAMES) == KNOWN | set(OTHERS)


@pytest.mark.parametrize("kind", sorted({**QWEN, **OTHERS}))
def test_the_versions_are_true_of_this_one(kind):
    architecture = OTHERS[kind].architecture if kind in OTHERS else QWEN[kind][0]
    assert hasattr(transformers, architecture) == (TRANSFORMERS_5 or in_4_57(kind))
