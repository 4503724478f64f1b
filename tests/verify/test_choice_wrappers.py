r"""What a policy writes around the options it names: JSON, sentences, Chinese, marks, several boxes."""

import pytest

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.verify import verify
from gmpo_vl.verify.extract import answer_anywhere
from gmpo_vl.verify.json_answers import answer_of_json

ANGLES = ("135°", "140°", "145°", "150°")
ANIMALS = ("cat", "dog", "cow", "pig")


def accepted(gold: str, answers, choices=ANGLES) -> set[str]:
    gold = encode_answer(gold, type="choice", choices=choices)
    return {answer for answer in answers if verify(gold, rf"\boxed{{{answer}}}").correct}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (
            ['{"answer": "C"}', '{"answer": "145°"}', '{"answer": "C. 145°"}', '{"final_answer": "(C)"}',
             '{"answer": "C", "text": "145°"}', r'\{"answer": "C"\}', "{'answer': 'C'}", '{"answer": ["C"]}',
             '{"reasoning": "A is too small", "answer": "C"}', '["C"]', "['C']", r"\{C\}", "[C]"],
            ['{"answer": "A"}', '{"answer": "A", "explanation": "not C"}', '{"answer": "C", "text": "135°"}',
             '{"answer": "A or C"}', '{"answer": ["A", "C"]}', '{"answer": "C", "option": "A"}', '["A", "C"]',
             r"\{A\}", '{"note": "C"}', '{"answer": ""}'],
        ),
        (
            ["选C", "答案：C", "答案：C. 145°", "故选：C．145°", "选项C正确", "C项", "C正确", "Ｃ", "（Ｃ）",
             "C、145°"],
            ["选A", "不选C", "C或D", "C、D", "C错误", "C不正确", "选项A正确", "答案：C. 135°", "Ａ"],
        ),
        (
            ["145°, C", "145°, option C", "145°, which is option C", "145°, so the answer is C", "145° = C",
             "145° corresponds to option C", "145°, i.e., C", "C | 145°", "C is 145°",
             "C corresponds to 145°",
             "C because it is 145°", "C because 135° is too small", "Answer - C", "$C$. 145°",
             r"\textbf{(C)}\ 145", r"\text{(C) } 145^\circ", "The answer is C) 145°"],
            ["135°, C", "135°, option C", "135°, so the answer is C", "145°, so the answer is A", "145° = A",
             "135° = C", "C | 135°", "C is 135°", "C because it is 135°", "145°, which is not C",
             "C is not 145°",
             "Answer - A", "$A$. 145°", "The answer is C) 135°"],
        ),
    ],
)  # fmt: skip
def test_an_option_in_what_a_policy_writes(right, wrong):
    assert accepted("C", right + wrong) == set(right)


def test_points_and_intervals_stand_with_their_letter():
    right = ["A (0, 0)", "A. (0,0)", "(0, 0), A", "The answer is A. (0, 0)", r"A\quad (0, 0)", "P(0, 0)"]
    wrong = ["B (0, 0)", r"B\quad (0, 0)", "The correct option is (B) (0, 0)", "(0, 0), B", "A (2, 0)"]
    assert accepted("A", right + wrong, ["(0, 0)", "(-1, 0)", "(2, 0)"]) == set(right)
    assert accepted("B", ["[2, 3], B", "The answer is B. [2, 3]", "[1, 2], B"], ["[1, 2]", "[2, 3]"]) == {
        "[2, 3], B",
        "The answer is B. [2, 3]",
    }


def test_a_lone_letter_behind_words_is_the_option_s_too():
    right = ["A", "option A", "The answer is A", "A. B", "(A) B"]
    wrong = ["B", "option B", "The answer is B", "Choice B", "A, B", "B? or A", "B. B"]
    assert accepted("A", right + wrong, ["B", "G", "O"]) == set(right)


def test_an_article_stands_before_a_word():
    options = ["$y=bx$", "$y=cx$", "$y=ax$"]
    assert accepted("C", [r"A\quad $y=ax$", r"C\quad $y=ax$"], options) == {r"C\quad $y=ax$"}
    functions = ["a polynomial", "a trigonometric function", "a logarithmic function"]
    said = ["the correct option is a trigonometric function", "the correct option is a polynomial"]
    assert accepted("B", said, functions) == {said[0]}


def test_options_that_are_arrows_or_say_the_same():
    arrows = [r"$\downarrow$", r"$\rightarrow$", r"$\uparrow$"]
    right = [r"$\downarrow$", r"A. $\downarrow$", r"$\downarrow$ (A)", "A", "A → $\\downarrow$"]
    wrong = [r"$\rightarrow$", r"A) $\rightarrow$", r"$\rightarrow$ (A)", r"A because it is $\rightarrow$"]
    assert accepted("A", right + wrong, arrows) == set(right)
    same = ["9", "18", "18"]
    assert accepted("B", ["18", "B", "B. 18", "C", "C. 18", "9"], same) == {"B", "B. 18"}
    denied = ["only P", "not $Q$", "only $Q$"]
    assert accepted("C", ["C, not $Q$", "C, i.e. not $Q$", "C, not B", "B"], denied) == {"C, not B"}
    names = ["neither", "Solution A", "Solution B"]
    said = ["The answer is Solution A", "The answer is Solution B", "Answer: Solution A", "B"]
    assert accepted("B", said, names) == {said[0], said[2], "B"}


def test_sets_of_options():
    right = [
        '{"answer": ["A", "C"]}',
        '{"answer": "A, C"}',
        '["A", "C"]',
        r"\{C, A\}",
        "A、C",
        "选AC",
        "A和C",
    ]
    right += ["cat and cow", "A. cat; C. cow", "A, C", "AC", "A; C"]
    wrong = ['{"answer": ["A", "B"]}', "A或C", "A or C", "ACD", '{"answer": "A"}', "A. dog, C. cow"]
    assert accepted("A, C", right + wrong, ANIMALS) == set(right)


@pytest.mark.parametrize("choices", [ANIMALS, None])
def test_boxes_side_by_side_name_options_that_are_right_together(choices):
    gold = encode_answer("A, C", type="choice", choices=choices)
    for joint in ("", ", ", " and ", "; ", "$ and $"):
        assert verify(gold, rf"So \boxed{{C}}{joint}\boxed{{A}}.").correct, joint
        assert not verify(gold, rf"So \boxed{{C}}{joint}\boxed{{B}}.").correct, joint
    assert not verify(gold, r"\boxed{A} or \boxed{C}").correct
    assert verify(gold, r"\boxed{A} or \boxed{C}").extracted == "A or C"
    assert not verify(encode_answer("C", type="choice"), r"\boxed{A}, \boxed{C}").correct
    assert verify("3", r"\boxed{3}, \boxed{5}").extracted == "3 or 5"  # values are as they were


def test_a_response_may_be_json():
    gold = encode_answer("C", type="choice", choices=ANIMALS)
    fenced = '```json\n{\n  "reasoning": "A is no.\\nB is no.",\n  "answer": "%s"\n}\n```'
    for place in ("any", "tag"):
        around = "<answer>{}</answer>" if place == "tag" else "<think>A?</think>\n{}"
        for answer, right in (("C", True), ("C. cow", True), ("A", False), ("A or C", False)):
            assert verify(gold, around.format(fenced % answer), answer_in=place).correct is right
    assert verify("12", '{"short answer": 12}', answer_in="any").correct
    assert verify(r"\frac{1}{2}", r'\boxed{{"answer": "\frac{1}{2}"}}').correct


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"answer": 3.5}', "3.5"),
        ('{"Final_Answer": "B"}', "B"),
        ('{"answer": "\\times"}', "\\times"),
        ('{"answer": true}', None),
        ('{"answer": {"a": 1}}', None),
        ('{"answer": "B", "choice": "B"}', None),
        ('{"answer": "B"', None),
        ("{" * 3000 + '"a": ' + "}" * 3000, None),
        ("{1, 2}", None),
        ("B", None),
        ("", None),
    ],
)
def test_the_answer_of_an_object(text, answer):
    assert answer_of_json(text) == answer


def test_yes_and_no_with_a_reason():
    right = [
        "Yes - it is larger",
        "Yes it is",
        "yes because it is larger",
        "Yes, it is.",
        "Yes: the left one",
    ]
    wrong = [
        "No - it is smaller",
        "Yes or no",
        "Yes - or no",
        "not yes",
        "Yes no",
        "No it is not",
        "yesterday",
    ]
    gold = encode_answer("Yes", type="text")
    assert {said for said in right + wrong if verify(gold, rf"\boxed{{{said}}}").correct} == set(right)


def test_the_form_that_we_math_asks_for():
    gold = encode_answer("B", type="choice", choices=["300, 400", "400, 300", "3000, 4000"])
    lead = "<Thought process>: A is shorter.\n"
    right = [
        "<Answer>:B. 400, 300",
        "<Answer>: B.",
        "<Answer>:<<B>>",
        "<Answer>: <<B. 400, 300>>",
        "Answer:B",
    ]
    wrong = ["<Answer>:A. 300, 400", "<Answer>: B. 300, 400", "<Answer>:<<C>>", "<Answer>:"]
    said = [text for text in right + wrong if verify(gold, lead + text, answer_in="any").correct]
    assert said == right


YES, NO = (encode_answer(word, type="text") for word in ("Yes", "No"))
INTERVALS = ["[2, 3)", "(2, 3]", "[2, 3]", "(2, 3)"]


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        *((YES, said, False) for said in ("Yes it is wrong", "Yes because it is not", "Yes, it is not")),
        *((YES, said, False) for said in ("Yes the opposite", "Yes - maybe not", "Yes it isn't")),
        *((YES, said, True) for said in ("Yes it is", "Yes, since b is not 0", "Yes - it is larger")),
        *((NO, said, True) for said in ("No it is not", "No, it is not.", "No because it is smaller")),
        (NO, "No - maybe", False),
        *((YES, said, False) for said in ("Yes, but maybe not", "Yes, it depends", "Yes, or not")),
        *((YES, said, False) for said in ("Yes, perhaps", "Yes, not really", "Yes, it probably isn't")),
        *((NO, said, False) for said in ("No, maybe", "No, it depends", "No, the opposite is true")),
    ],
)
def test_a_reason_that_takes_the_word_back_is_no_answer(gold, answer, right):
    assert verify(gold, f"\\boxed{{{answer}}}").correct is right


@pytest.mark.parametrize(
    ("letter", "answer", "right"),
    [
        *(("C", said, False) for said in ("C (2, 3)", "C 2, 3", "C: [2, 3)")),
        *(("C", said, True) for said in ("C [2, 3]", "C. [2, 3]", "[2, 3]")),
        ("D", "D [2, 3]", False),
        ("D", "D (2, 3)", True),
    ],
)
def test_intervals_are_told_apart_by_their_brackets(letter, answer, right):
    gold = encode_answer(letter, type="choice", choices=INTERVALS)
    assert verify(gold, f"\\boxed{{{answer}}}").correct is right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("A, B", False),
        ("A/B", False),
        ("A | B", False),
        ("A matches B", False),
        ("A; B", False),
        ("A because it is B", True),
        ("A. B", True),
        ("(A) B", True),
    ],
)
def test_two_letters_name_two_options_where_one_is_called_by_the_other(answer, right):
    gold = encode_answer("A", type="choice", choices=["B", "C", "D", "A"])
    assert verify(gold, f"\\boxed{{{answer}}}").correct is right


@pytest.mark.parametrize(
    "answer",
    [
        '{"answer": "C", "answer": "A"}',
        '{"answer": "C", "Answer": "A"}',
        '{"final_answer": "C", "final answer": "A"}',
        '{"answer": "A", "text": "12", "content": "13"}',
        '{"answer": [["A"]]}',
        '{"answer": ' + "[" * 900 + "]" * 900 + "}",
    ],
)
def test_json_with_several_answers_or_none_is_no_answer(answer):
    assert answer_of_json(answer) is None
    gold = encode_answer("A", type="choice", choices=["12", "13", "14", "15"])
    assert verify(gold, f"\\boxed{{{answer}}}").outcome not in ("equal", "error")


@pytest.mark.parametrize(
    "said",
    [
        "答案是 C。因为三角形全等",
        "答案是C，因为角相等",
        "答案：C。理由：同位角",
        "答案是 C（由于对称）",
        "答案是 C。",
    ],
)
def test_a_chinese_reason_on_the_line_is_no_part_of_the_answer(said):
    assert answer_anywhere(said).text == "C"


@pytest.mark.parametrize(
    "said",
    ["### Final Answer\nC", "**Answer**\n\nC", "I see a bird.\n\n# Answer\nC.", "Answer\nC",
     "The answer is C.<|im_end|>", "It is so.\n<|begin_of_box|>C<|end_of_box|>", "[Answer]\nC"],
)  # fmt: skip
def test_headings_and_marks_of_a_chat_format_state_an_answer(said):
    assert answer_anywhere(said).text == "C"


def test_an_empty_box_of_tokens_is_no_answer():
    assert answer_anywhere("The answer is C. <|begin_of_box|><|end_of_box|>").problem == "no_answer"


def test_a_thought_that_does_not_end_begins_its_response():
    assert answer_anywhere("<think>Perhaps the answer is A").problem == "truncated"
    assert (
        answer_anywhere("<think>It is A.</think> It is B. <think>Or is the answer C").problem == "truncated"
    )
    assert answer_anywhere("The prompt asks for <think> tags. The answer is A").text == "A"
