"""What a misspelt name may have meant."""

from gmpo_vl.storage.names import closest, nearest_or_all

KNOWN = ("gmpo", "gspo", "grpo", "hmpo")


def test_letters_in_another_order_are_nearer_than_another_letter():
    assert [closest(word, KNOWN) for word in ("gpmo", "gsop", "mgpo", "HMOP")] == [
        *("gmpo", "gspo", "gmpo"),
        "hmpo",
    ]


def test_else_the_most_alike_or_none():
    assert closest("grpoo", KNOWN) == "grpo"
    assert closest("xyz", KNOWN) is None
    assert closest("gmpo", ()) is None
    assert nearest_or_all("xyz", KNOWN) == "; known: gmpo, grpo, gspo, hmpo"
