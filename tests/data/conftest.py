"""Rows that the tests of sources put down in every form."""

import pytest


@pytest.fixture
def rows(png) -> list[dict]:
    """Text only, one image, several images."""
    return [
        {
            "images": [png] * count,
            "problem": "<image>" * count + f"Find {i}.",
            "answer": str(i),
            "id": f"q{i}",
        }
        for i, count in enumerate([0, 1, 3, 1])
    ]
