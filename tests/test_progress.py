"""What is seen of a phase where stderr is no terminal."""

from gmpo_vl.progress import LINES, phase_bar


def test_some_lines_stand_where_a_bar_cannot(capsys):
    with phase_bar("games", 1000, lines=True) as advance:
        for _ in range(1000):
            advance(1)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == LINES
    assert told[0].startswith("games: 50 of 1,000 (5%) in 0:00:")
    assert told[-1].startswith("games: 1,000 of 1,000 (100%)")
    with phase_bar("games", 3, lines=True) as advance:
        for _ in range(3):
            advance(1)
    assert [line.split(" in ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "games: 1 of 3 (33%)",
        "games: 2 of 3 (67%)",
        "games: 3 of 3 (100%)",
    ]


def test_a_phase_is_silent_there_unless_asked(capsys):
    with phase_bar("games", 3) as advance:
        advance(3)
    with phase_bar("games", 0, lines=True) as advance:
        advance(0)
    assert capsys.readouterr().err == ""
