"""How people write values: with marks around them, in words, with units, as ranges and times."""

from typing import Any

import numpy as np
import pytest

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.verify import verify


def accepted(gold, answers) -> set[str]:
    return {answer for answer in answers if verify(gold, rf"\boxed{{{answer}}}").correct}


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (  # marks
            "7",
            ["**7**", "*7*", "__7__", "___7___", "`7`", "'7'", '"7"', "``7''", "## 7", "<b>7</b>",
             "<answer>7</answer>", "=7", "= 7", ":7", "→ 7",
             r"\therefore 7", r"\therefore x=7", r"\textcolor{red}{7}", r"\color{blue}{7}", r"\underline{7}",
             r"\framebox{7}",
             r"\bbox[5px]{7}", r"7\ \blacksquare", r"7\quad\text{(Q.E.D.)}", "7 ✓", "**7 cm**", "**x = 7**",
             "**Answer: 7**", "7 or 7.0"],
            ["**8**", "=8", "-7", "7*", "**7** or **8**", "7!", "7'", "7_7", "> 7", "7 = 8", "7,", "7:",
             "7 or 8", "7 and 8", "*7", "'7' or '8'"],
        ),
        (r"\sqrt{2}", [r"**$\sqrt{2}$**", r"\\sqrt{2}"], [r"**$\sqrt{3}$**", r"\\sqrt{3}", "2"]),
        ("['70']", ["70"], ["71", "7", "0"]),
        (r"['$\\sqrt{2}$']", [r"\sqrt{2}"], [r"\sqrt{3}"]),
        (  # qualifiers
            "f(x)=2x",
            [r"f(x)=2x \text{ for all } x", r"f(x)=2x, x\in\mathbb{R}", r"f(x)=2x\ (x\in\mathbb{R})",
             r"\forall x, f(x)=2x", "f(x)=2x only"],
            [r"f(x)=3x \text{ for all } x", "f(x)=2x where f(x)=3x or 2x", "f(x)=2x+c where c is a constant",
             "f(x)=2x or 3x"],
        ),
        (r"f(x)=2x \text{ for all } x", ["f(x)=2x", "2x"], ["f(x)=3x"]),
        (
            r"x=2k\pi, k\in\mathbb{Z}",
            [r"x=2k\pi", r"2k\pi, k\in\mathbb{Z}", r"x = 2k\pi \text{ where $k$ is an integer}",
             r"2k\pi \text{ for all integers } k"],
            [r"x=k\pi, k\in\mathbb{Z}", r"x=2k\pi, k\in\mathbb{N}", r"x=2\pi",
             r"x=2k\pi \text{ where $k$ is real}"],
        ),
        (r"2n+1 \text{ for } n\ge 1", ["2n+1"], [r"2n+1 \text{ for } n\ge 2", "2n+2",
         r"2n+1 \text{ for } n\le 1"]),
        # units of other languages, one letter, other units of the same kind
        ("30海里", ["30", "30.0", "30海里"], ["31", "30米", "30 km", "300"]),
        ("60 km/h", ["每小时60千米", "60千米/小时"], ["每分钟60千米", "每小时6千米", "每小时60"]),
        ("6米", ["6", "6 m", "600 cm", "6米", "6 meters"], ["6 cm", "6厘米", "6 kg", "60"]),
        (r"5\sqrt{3}厘米", [r"5\sqrt{3}", r"5\sqrt3\text{ cm}"], [r"5\sqrt{2}", r"5\sqrt{3}米", "5"]),
        ("5个", ["5", "5个"], ["6"]),
        ("80m", ["80", "80.0", "80 m", "80m", r"80\text{ m}"], ["8", "80 cm", "80x", "80 kg", "80^2"]),
        (r"30\pi m^2", [r"30\pi", r"30\pi\text{ m}^2"], ["30", r"30\pi\text{ m}", r"30\pi x"]),
        ("3x", ["3x"], ["3", "3m", "3 x y"]),
        ("2s", ["2s"], ["2", "s"]),
        (r"60\text{ mph}", ["60 mph", "60", "60 miles per hour", "1 mile per minute"], ["60 kph", "60 miles",
         "61 mph"]),
        (r"60\text{ km/h}", ["60 kph", r"60 \frac{km}{h}", r"60\text{ kmph}"], ["60 mph", r"60 \frac{km}{s}",
         r"60 \frac{h}{km}"]),
        (r"\$12.50", ["1250 cents", "12.5"], ["12.5 cents", "1250", "1250 dollars", "€12.50"]),
        ("1 hour 30 minutes", ["90 minutes", "1.5 hours", "1 hour and 30 minutes"], ["130 minutes",
         "1.3 hours", "1 hour", "30 minutes"]),
        ("3'6''", ["42 inches", "3 feet 6 inches", "3.5 feet"], ["36 inches", "3.6 feet", "9 feet"]),
        (
            "75",
            ["75g", "75 g", "75 cups", "75 cups of rice", "75 years old", "75 miles per hour", "75 Mb/h",
             "75 letters per day", "75{grams}",
             "75 g/cm^3", "75th", "75th place", r"75^{\text{th}}"],
            ["75x", "74g", "75 abc", "75 hundred", "75 g or 80 g", "75 cups or 80", "75 pairs",
             "75 thousandths", "75th power", "75 dozen eggs",
             r"75\text{th}", "175th", "75st"],
        ),
        ("1250", ["1 250", "1,250", r"\$1 250", "1 250 cm"], ["1 25", "12 50", "1 2 5 0", "1 251",
         "1 250 000", "1 250 or 3"]),
        ("5 2 1", ["[5,2,1]", "5, 2, 1"], ["1, 2, 5", "[5,2]", "521", "[5,2,2]"]),
        ("-3", ["negative 3", "negative three", "minus 3"], ["3", "negative 4", "--3", "three"]),
        # ranges and times
        ("20 - 30", ["20-30", "20–30", "20 to 30", "between 20 and 30", "20 - 30 cm"], ["-10", "30 - 40",
         "30 - 20", "20, 30", "20 - 31", "25"]),
        ("60%-80%", ["60%–80%", "60% to 80%"], ["-20%", "40%-60%", "80%-60%"]),
        ("10", ["20-10"], ["10-20", "5-15"]),
        ("3", ["3:00", "3 pm", "3:00 p.m.", "3 o'clock"], ["3:30 pm", "3:01", "2:00"]),
        ("20:15", ["8:15 pm", "8:15 p.m."], ["8:15 am", "8:15", "20:16", "20"]),
        ("5:05", ["5:05", "5:05 am"], ["1", "5:50", "Clock 1"]),
        (  # sentences and sums
            "12",
            ["He needs 12 apples.", r"He should charge \$12.", "The area of triangle ABC is 12 square units",
             "3 boxes * 4 pens/box = 12 pens",
             r"3\star 2 = 7 + 5 = 12.", "Therefore, the final answer is: 12"],
            ["He needs 13 apples", "He needs 12 more than before", "12 positive and 12 negative",
             "They are 12 or 13", "Not 12 apples",
             "There are no more than 12", "3 boxes * 4 pens/box = 13 pens", "3 boxes * 5 pens/box = 12 pens",
             "5 boxes = 12 pens",
             "We get 12 - 2 = 10.", "The first value is 12 but the answer is 20.", "The answer is not 12."],
        ),
        (r"\frac{1}{2}", [r"\\frac{1}{2}", r"\\dfrac{1}{2}"], [r"\\frac{1}{3}"]),
        ("lwh", ["hwl", "whl"], ["lw", "lwhh"]),
        ("GOD", ["GOD"], ["DOG"]),
    ],
)  # fmt: skip
def test_the_value_counts_and_not_how_it_is_dressed(gold, right, wrong):
    assert accepted(gold, right + wrong) == set(right)


@pytest.mark.parametrize(
    "gold", [25.0, "25.0", np.float64(25.0), np.float32(25.0), [25.0, 99.5], np.array([25.0, 99.5])]
)
def test_a_rounded_float_keeps_its_decimal(gold):
    answer = encode_answer(gold, type="rounded")
    assert accepted(answer, ["25.04", "24.96", "25", "25.4", "24.9", "25.06"]) == {"25.04", "24.96", "25"}


@pytest.mark.parametrize("gold", [25, "25", np.int64(25)])
def test_a_rounded_gold_without_decimals_is_exact(gold):
    assert accepted(encode_answer(gold, type="rounded"), ["25", "25.0", "25.04", "25.4"]) == {"25", "25.0"}


def test_a_whole_float_without_that_type_is_an_integer():
    numbers: list[Any] = [142.0, np.float64(142.0), np.float32(142.0)]
    assert [encode_answer(gold) for gold in numbers] == ["142"] * 3
    assert accepted('{"gold": 25.0, "type": "rounded"}', ["25.04", "25.4"]) == {"25.04"}
    with pytest.raises(ValueError, match="empty"):
        encode_answer(float("nan"))
