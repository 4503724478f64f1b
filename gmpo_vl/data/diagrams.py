"""Built-in geometry problems, drawn with Pillow: the numbers are in the picture only."""

from __future__ import annotations

QUESTIONS = (
    "Find the angle x.",
    "The lines are parallel. Find the angle x.",
    "Find the area of the rectangle.",
    "Find the perimeter of the rectangle.",
    "Find the side x of the right triangle.",
    "Find the length x.",
    "How many circles are there?",
    "How many squares are there?",
)
