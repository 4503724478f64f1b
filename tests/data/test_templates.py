import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmpo_vl.data.templates import (
    TemplateError,
    answer_place,
    as_asked,
    load_template,
    render_problem,
    template_names,
    to_messages,
)


def test_math_is_the_published_prompt():
    assert render_problem(" <image>Find x. ", load_template("math")) == (
        "<image>Find x. You FIRST think about the reasoning process as an internal monologue and then "
        "provide the final "
        "answer. The reasoning process MUST BE enclosed within <think> </think> tags. The final answer MUST "
        "BE put in "
        "\\boxed{}."
    )


@pytest.mark.parametrize("name", template_names())
def test_every_shipped_template_shows_the_problem_once(name):
    assert {"math", "boxed", "r1v", "plain"} <= set(template_names())
    text = render_problem("<image>In $\\triangle$ {{ABC}} & <b>, find x", load_template(name))
    assert text.count("<image>In $\\triangle$ {{ABC}} & <b>, find x") == 1
    assert text.count("<image>") == 1


def test_a_problem_is_text_and_never_jinja():
    for problem in ("{{ 7 * 7 }}", "{% for i in range(9) %}x{% endfor %}", "{# gone #}", "{% raw %}"):
        assert render_problem(problem, load_template("plain")) == problem
    assert render_problem("{{ content }}", None) == "{{ content }}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Answer the question.", "show the problem once"),
        ("{{ contents }}", "'contents' is undefined"),
        ("{{ content }} {{ content }}", "show the problem once"),
        ("<image>{{ content }}", "show the problem once"),
        ("{{ content ", "cannot be rendered"),
        ("{{ content.__class__.__mro__ }}{{ content }}", "unsafe"),
    ],
)
def test_a_broken_template_is_found_when_it_is_loaded(tmp_path, text, said):
    path = tmp_path / "mine.jinja"
    path.write_text(text)
    with pytest.raises(TemplateError, match=said) as raised:
        load_template(path)
    assert "mine.jinja" in str(raised.value)


def test_a_template_of_ones_own_and_a_name_that_is_none(tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text("\nQ: {{ content | trim }}\nA:\n\n")
    assert render_problem(" <image>x? ", load_template(str(path))) == "Q: <image>x?\nA:"
    with pytest.raises(TemplateError, match=r"no template file .*maths\.jinja.* boxed, math, plain, r1v"):
        load_template("./examples/maths.jinja")


@given(
    st.lists(st.text("<image>{é\n ", max_size=8).filter(lambda t: "<image>" not in t), min_size=1, max_size=5)
)
def test_messages_hold_the_text_and_the_images_in_order(pieces):
    text = "<image>".join(pieces)
    if text.count("<image>") != len(pieces) - 1:  # two pieces spelled a tag across their border
        return
    (message,) = to_messages(text, len(pieces) - 1)
    assert message["role"] == "user"
    if len(pieces) == 1:
        assert message["content"] == text
        return
    written = "".join("<image>" if part["type"] == "image" else part["text"] for part in message["content"])
    assert written == text
    assert all(part["type"] == "image" or part["text"] for part in message["content"])


def test_tags_and_images_must_agree():
    with pytest.raises(ValueError, match="1 <image> tags for 2 images"):
        to_messages("<image>x", 2)


@pytest.mark.parametrize(
    ("template", "place", "response"),
    [
        ("math", "box", "<think>x</think>\n\\boxed{7}"),
        ("r1v", "tag", "<think>x</think>\n<answer>7</answer>"),
        ("boxed", "box", "\\boxed{7}"),
        ("plain", None, None),
    ],
)
def test_a_template_says_where_the_answer_stands(template, place, response):
    text = load_template(template)
    assert (answer_place(text), as_asked(text, "7")) == (place, response)


def test_a_box_beside_the_tag_stands_in_it():
    prompt = "{{ content }} Write <answer>\\boxed{ANSWER}</answer>."
    assert as_asked(prompt, "7") == "<answer>\\boxed{7}</answer>"
