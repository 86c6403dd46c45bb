"""Orders as bytes inside a step frame: they ride in front of the rows that must follow them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from peerinfer.engine.base import CloseSlot, OpenSlot, Order, TruncateSlot
from peerinfer.errors import BadFrame
from peerinfer.net.frames import ORDERS_MAX_BYTES
from peerinfer.net.messages import pack_fields, unpack_fields
from peerinfer.packing import pack, unpack

_KINDS: tuple[type[OpenSlot] | type[CloseSlot] | type[TruncateSlot], ...] = (OpenSlot, CloseSlot, TruncateSlot)
"""An order's number on the wire is its place here; only append."""


def encode_orders(orders: Sequence[Order]) -> bytes:
    """The bytes of `orders`; empty for none."""
    if not orders:
        return b""
    return pack([[_KINDS.index(type(order)), pack_fields(order)] for order in orders])


def decode_orders(data: bytes) -> tuple[Order, ...]:
    """The orders in `data`. Raises `BadFrame`."""
    if not data:
        return ()
    try:
        raw = unpack(data, ORDERS_MAX_BYTES)
    except ValueError as error:
        raise BadFrame(f"Not valid orders: {error}.") from None
    if not isinstance(raw, list):
        raise BadFrame("Orders must be an array.")
    return tuple(_order(item) for item in cast(list[object], raw))


def _order(item: object) -> Order:
    if not isinstance(item, list) or len(cast(list[object], item)) != 2:
        raise BadFrame("An order must be a kind and its fields.")
    kind, fields = cast(list[object], item)
    if type(kind) is not int or not 0 <= kind < len(_KINDS):
        raise BadFrame("An order of unknown kind.")
    return unpack_fields(_KINDS[kind], fields)
