"""The slot table: only what continues a slot is run; late and early orders do no harm."""

from __future__ import annotations

import pytest

from peerinfer.engine.base import CloseSlot, OpenSlot, Sampling, TruncateSlot
from peerinfer.engine.orders import decode_orders, encode_orders
from peerinfer.engine.slots import Forget, SlotTable
from peerinfer.errors import BadFrame, Desync
from peerinfer.net.frames import Row


def opening(slot: int, generation: int, max_tokens: int = 3) -> OpenSlot:
    return OpenSlot(slot, generation, "r", "g", max_tokens, Sampling(seed=1), (9,), (1, 2), ())


def table() -> SlotTable:
    made = SlotTable(2, 8)
    made.obey(opening(0, 1))
    return made


def test_rows_must_continue_the_slot() -> None:
    slots = table()
    rows = [Row(0, 1, 0, 3, False), Row(0, 1, 3, 2, True)]
    slots.check(rows)
    slots.advance(rows)
    slots.check([Row(0, 1, 5, 3, True)])
    for bad in (Row(0, 1, 4, 1, True), Row(0, 1, 57, 1, True), Row(0, 2, 5, 1, True), Row(1, 1, 0, 1, True)):
        with pytest.raises(Desync):
            slots.check([bad])
    with pytest.raises(Desync, match="context"):
        slots.check([Row(0, 1, 5, 4, True)])


def test_orders_of_former_generations_do_nothing() -> None:
    slots = table()
    assert slots.obey(opening(0, 2)) == Forget(0, 0)
    assert slots.obey(opening(0, 1)) is None
    assert slots.obey(CloseSlot(0, 1)) is None
    assert slots.tenant(0, 2) is not None


def test_a_close_ends_what_never_opened_here_and_what_came_before() -> None:
    slots = table()
    assert slots.obey(CloseSlot(0, 5)) == Forget(0, 0)
    assert slots.occupied == 0
    assert slots.obey(opening(0, 5)) is None
    assert slots.occupied == 0


def test_truncation_is_exact() -> None:
    slots = table()
    slots.advance([Row(0, 1, 0, 5, False)])
    assert slots.obey(TruncateSlot(0, 1, 2)) == Forget(0, 2)
    slots.check([Row(0, 1, 2, 1, True)])
    with pytest.raises(Desync):
        slots.obey(TruncateSlot(0, 1, 6))
    with pytest.raises(Desync):
        slots.obey(TruncateSlot(7, 1, 0))


def test_ends_are_decided_here() -> None:
    slots = table()
    row = Row(0, 1, 0, 1, True)
    assert [slots.sampled(row, token).finish for token in (4, 5, 6)] == ["", "", "length"]
    slots.obey(opening(0, 2))
    assert slots.sampled(Row(0, 2, 0, 1, True), 9).finish == "stop"


def test_a_failed_step_leaves_no_tenant() -> None:
    slots = table()
    assert slots.abandon([Row(0, 1, 0, 1, True)]) == [Forget(0, 0)]
    assert slots.occupied == 0


def test_orders_survive_the_wire() -> None:
    orders = (opening(0, 3), CloseSlot(1, 2), TruncateSlot(0, 3, 17))
    assert decode_orders(encode_orders(orders)) == orders
    assert encode_orders(()) == b""
    for bad in (b"\x01", b"\x91\x92\x07\x90", b"\x91\x92\x01\x91\xa1a", b"\xc0"):
        with pytest.raises(BadFrame):
            decode_orders(bad)
