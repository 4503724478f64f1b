"""Rows of groups, by their lengths alone."""

from gmpo_vl.models.layout import Segment


def segments_of(groups: list[tuple[int, list[int]]]) -> list[Segment]:
    segments, offset = [], 0
    for prompt, responses in groups:
        segments.append(Segment(offset, prompt))
        start, offset = offset, offset + prompt
        for length in responses:
            segments.append(Segment(offset, length, start, prompt))
            offset += length
    return segments
