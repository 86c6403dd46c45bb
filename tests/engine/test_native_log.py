"""What is kept of llama.cpp's log: its error lines, with what continues them, and no chatter."""

from __future__ import annotations

import pytest

from peerinfer.engine.llama_native import NativeLog

WARNING, ERROR, MORE = 3, 4, 5


@pytest.mark.parametrize(
    ("said", "last"),
    [
        ([(WARNING, b"so so\n"), (MORE, b"and so\n")], ""),
        ([(ERROR, b"no memory\n")], "no memory"),
        ([(ERROR, b"no memory"), (MORE, b" for 5 MB\n"), (WARNING, b"well\n"), (MORE, b"...\n")], "no memory for 5 MB"),
        ([(ERROR, b"first\n"), (ERROR, b"caf\xff\n"), (MORE, b"\n")], "caf\ufffd"),
        ([(MORE, b"from before\n")], ""),
    ],
)
def test_only_errors_are_kept(said: list[tuple[int, bytes]], last: str) -> None:
    log = NativeLog()
    for level, text in said:
        log._callback(level, text, None)
    assert log.last().removeprefix(" llama.cpp says: ").strip() == last


def test_few_lines_are_kept() -> None:
    log = NativeLog()
    for number in range(100):
        log._callback(ERROR, str(number).encode(), None)
    assert log.lines == ["95", "96", "97", "98", "99"]
