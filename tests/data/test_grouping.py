"""Rows that share a key are in one group, however long the chain; a share of the groups is held out."""

from hypothesis import given
from hypothesis import strategies as st

from gmpo_vl.data.grouping import Groups, key_of

ROWS = st.lists(
    st.lists(st.integers(0, 40).map(lambda n: key_of(bytes([n]))), min_size=1, max_size=4), max_size=40
)


def groups_of(rows) -> Groups:
    groups = Groups()
    for keys in rows:
        groups.add(keys)
    return groups


@given(ROWS)
def test_groups_are_the_connected_rows(rows):
    sets = [set(keys) for keys in rows]
    for _ in rows:  # spread along the chains until nothing changes
        sets = [set().union(*(other for other in sets if other & keys)) for keys in sets]
    assert list(groups_of(rows).groups()) == [min(keys) for keys in sets]


def test_the_share_holds_for_single_keys_and_for_groups_of_many():
    keys = [key_of(i.to_bytes(4, "big")) for i in range(60_000)]
    for size in (1, 2, 6):
        rows = [keys[i : i + size] for i in range(0, len(keys), size)]
        held = list(groups_of(rows).in_validation(0.1))
        assert 0.09 < sum(held) / len(held) < 0.11
