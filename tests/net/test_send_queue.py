"""The two lanes of what waits to be sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.net.send_queue import (
    CONTROL_MAX_BYTES,
    CONTROL_MAX_MESSAGES,
    DATA_MAX_BYTES,
    DATA_MAX_FRAMES,
    SendQueue,
)


def test_control_leaves_before_data_and_each_lane_in_order():
    queue = SendQueue()
    queue.put_data(b"d1")
    assert queue.put_control(b"c1")
    queue.put_data(b"d2")
    assert queue.put_control(b"c2")
    assert [queue.pop() for _ in range(len(queue))] == [b"c1", b"c2", b"d1", b"d2"]
    with pytest.raises(IndexError):
        queue.pop()


def test_the_control_lane_is_bounded_by_messages_and_bytes():
    queue = SendQueue()
    assert all(queue.put_control(b"") for _ in range(CONTROL_MAX_MESSAGES))
    assert not queue.put_control(b"")
    queue = SendQueue()
    assert queue.put_control(bytes(CONTROL_MAX_BYTES))
    assert not queue.put_control(b"x")
    queue.pop()
    assert queue.put_control(b"x")


def test_the_data_lane_is_bounded_by_frames_and_bytes():
    queue = SendQueue()
    for _ in range(DATA_MAX_FRAMES):
        assert queue.has_room_for(1)
        queue.put_data(b"x")
    assert not queue.has_room_for(1)
    queue = SendQueue()
    queue.put_data(bytes(1))
    assert queue.has_room_for(DATA_MAX_BYTES - 1)
    assert not queue.has_room_for(DATA_MAX_BYTES)


@given(st.lists(st.one_of(st.none(), st.tuples(st.booleans(), st.integers(0, 10**6))), max_size=200))
def test_nothing_is_lost_and_the_bytes_always_add_up(steps: list[tuple[bool, int] | None]):
    queue, control, data = SendQueue(), list[bytes](), list[bytes]()
    for step in steps:
        if step is None:
            if control or data:
                assert queue.pop() == (control or data).pop(0)
            continue
        is_control, size = step
        item = bytes(size)
        if is_control:
            if queue.put_control(item):
                control.append(item)
        elif queue.has_room_for(size):
            queue.put_data(item)
            data.append(item)
        assert sum(map(len, control)) <= CONTROL_MAX_BYTES
        assert len(data) <= DATA_MAX_FRAMES
        assert len(queue) == len(control) + len(data)
