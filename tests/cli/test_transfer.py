"""The line of a transfer: a bar on a terminal, one line elsewhere."""

from __future__ import annotations

import sys

import pytest

from peerinfer.cli.transfer import NAME_MAX_CHARS, TransferLine, transfer_text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("m.gguf", 0, 0, 0.0), "m.gguf  0 B"),
        (("m.gguf", 0, 2_000_000_000, 0.0), "m.gguf [--------------------]    0%  0 B of 2.0 GB"),
        (
            ("m.gguf", 1_000_000_000, 2_000_000_000, 50e6),
            "m.gguf [##########----------]   50%  1.0 GB of 2.0 GB  50 MB/s  20 s left",
        ),
        (("m.gguf", 5, 5, 1.0), "m.gguf [####################]  100%  5 B of 5 B  1 B/s"),
        (("m.gguf", 0, 6_000_000, 1000.0), "m.gguf [--------------------]    0%  0 B of 6 MB  1 kB/s  2 h left"),
    ],
)
def test_texts(arguments: tuple[str, int, int, float], text: str) -> None:
    assert transfer_text(*arguments) == text


def test_a_long_name_is_cut() -> None:
    assert transfer_text("folder/" * 20 + "x.gguf", 1, 0, 0.0).split("  ")[0].endswith("folder/x.gguf")
    assert len(transfer_text("y" * 200, 1, 0, 0.0).split("  ")[0]) == NAME_MAX_CHARS


def test_elsewhere_than_on_a_terminal_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with TransferLine() as line:
        for done in range(100):
            line.show("m.gguf", done, 100_000_000)
    captured = capsys.readouterr()
    assert captured.err == "Fetching m.gguf (100 MB).\n"
    assert captured.out == ""


def test_on_a_terminal_the_line_is_rewritten(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    times = iter([0.0, 1.0, 2.0, 100.0])
    with TransferLine(lambda: next(times)) as line:
        line.show("m.gguf", 100_000_000, 200_000_000)
        line.show("m.gguf", 110_000_000, 200_000_000)
        line.show("m.gguf", 120_000_000, 200_000_000)
        line.show("m.gguf", 120_000_000, 200_000_000)
    lines = capsys.readouterr().err.split("\r")
    assert "MB/s" not in lines[1]
    assert "10 MB/s  9 s left" in lines[2]
    assert "10 MB/s  8 s left" in lines[3]
    assert "/s" not in lines[4].rstrip().removesuffix("left")
    assert lines[4].endswith("\n")
