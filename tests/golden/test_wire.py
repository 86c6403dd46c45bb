"""Every message on the wire: the bytes that `wire.txt` keeps, and every tag in it for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from peerinfer.net.messages import Tag, decode, encode
from tests.golden.samples import messages, sample

WIRE = Path(__file__).parent / "wire.txt"


def lines() -> dict[int, tuple[str, str]]:
    """Class name and bytes (hex) by tag."""
    rows = (line.split() for line in WIRE.read_text(encoding="ascii").splitlines() if line and line[0] != "#")
    return {int(tag): (name, data) for tag, name, data in rows}


@pytest.mark.parametrize(("tag", "cls"), messages().items(), ids=lambda value: getattr(value, "__name__", str(value)))
def test_the_bytes_on_the_wire_stay_as_they_are(tag: int, cls: type[object]) -> None:
    name, golden = lines()[tag]
    message = sample(cls)
    assert cls.__name__ == name
    assert encode(message).hex() == golden
    assert decode(bytes.fromhex(golden)) == message


def test_no_tag_is_forgotten_and_none_is_without_a_message() -> None:
    assert set(lines()) == set(messages()) == {int(tag) for tag in Tag}
