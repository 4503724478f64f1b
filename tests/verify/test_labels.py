"""What a value is called, in the gold and in the answer."""

import pytest

from gmpo_vl.verify import verify


def accepted(gold: str, answers: list[str]) -> set[str]:
    return {answer for answer in answers if verify(gold, rf"\boxed{{{answer}}}").correct}


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "Area = 9.4",
            ["9.4", "= 9.4", "A = 9.4", "Area: 9.4", r"\text{Area} = 9.4 \text{ cm}^2",
             "The area of the triangle is 9.4", "Area of triangle ABC = 9.4"],
            ["Perimeter = 9.4", "P = 9.4", "Surface area = 9.4", "Half the area = 9.4", "Area = 9.4 or 9.5",
             "Area is not 9.4", "Area = 9.4, Perimeter = 12", "9.5"],
        ),
        (
            "9.4",
            ["Area = 9.4", "Surface area: 9.4", "The perimeter is 9.4", "面积为9.4", "Length of AB: 9.4 cm"],
            ["Twice the area = 9.4", "Not the area: 9.4", "Area > 9.4", "面积不为9.4", "Area: 9.4, 9.5",
             "Length = 9.4, Width = 2"],
        ),
        (
            "AB = 5",
            ["5", "AB: 5", "The length of AB is 5", "The distance from A to B is 5"],
            ["CD: 5", "The length of CD is 5", "Area = 5", "The length of AC is 5"],
        ),
        (
            "Domain: x > 3; Range: y > 0",
            ["Range: y > 0; Domain: x > 3", r"Domain: (3, \infty), Range: (0, \infty)", "x > 3; y > 0"],
            ["Domain: y > 0; Range: x > 3", "y > 0; x > 3", "Domain: x > 3", "x > 3",
             r"Domain: [3, \infty), Range: (0, \infty)"],
        ),
        (
            "Total cost = 12",
            ["The cost = 12", "Final answer: 12", "Exact total cost = 12"],
            ["Unit cost = 12", "Given cost = 12", "Final cost = 12", "Angle = 12"],
        ),
        ("Final velocity = 12", ["The velocity is 12"], ["Initial velocity = 12", "Given velocity = 12"]),
        ("Angle ABC = 30", ["The angle = 30", "ABC = 30", r"\angle ABC = 30"], ["Area = 30"]),
        ("Statement A is true", ["Statement A is true"], ["true", "Statement B is true"]),
    ],
)  # fmt: skip
def test_a_label_may_be_left_out_or_added_but_names_one_quantity(gold, right, wrong):
    assert accepted(gold, right + wrong) == set(right)
