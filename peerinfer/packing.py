"""msgpack with limits: the one typed door to the library, for pipes, links and files alike."""

from __future__ import annotations

from typing import Any, cast

import msgpack

_msgpack: Any = msgpack

TEXT_MAX_BYTES = 4 * 65_536
"""One text value."""
ITEMS_MAX = 65_536
"""Items of one array or map."""


def pack(value: object) -> bytes:
    """The msgpack bytes of `value` (None, bool, int, float, str, bytes, lists, tuples and str-keyed dicts)."""
    return cast(bytes, _msgpack.packb(value, use_bin_type=True))


def unpack(
    data: bytes | memoryview, max_bytes: int, maps: bool = False, text_max_bytes: int = TEXT_MAX_BYTES
) -> object:
    """The value in `data`, which must be exactly one value. Raises `ValueError` for anything else.

    `max_bytes` bounds the input and each binary value in it; maps are refused unless `maps`.
    """
    if len(data) > max_bytes:
        raise ValueError(f"{len(data)} bytes are over the limit of {max_bytes}")
    try:
        return cast(
            object,
            _msgpack.unpackb(
                data,
                raw=False,
                use_list=True,
                strict_map_key=True,
                max_str_len=text_max_bytes,
                max_bin_len=max_bytes,
                max_array_len=ITEMS_MAX,
                max_map_len=ITEMS_MAX if maps else 0,
                max_ext_len=0,
            ),
        )
    except Exception as error:  # the library raises many kinds; all of them mean "not a value"
        raise ValueError(f"not a msgpack value ({type(error).__name__})") from None
