"""The measurement of hostile files: it counts what came, and misses a bar where one is missed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.models.heaviest import HEAVIEST
from tests.models.hostile import MALFORMED

if sys.platform == "win32":
    pytest.skip("measures with what Windows does not have", allow_module_level=True)

from mutate_gguf import BAR_BYTES, Figures, try_class, try_file, try_mutations

from peerinfer.errors import ModelError


def test_mutations_and_classes_are_counted() -> None:
    total = try_mutations(0, range(50))
    total.add(try_class("bad_magic", 3))
    assert total.files == sum(total.outcomes.values()) == 53
    assert total.outcomes["CorruptModel"] == 3
    assert total.longest
    assert not total.faults


def test_files_on_disk_must_be_what_they_are_said_to_be(tmp_path: Path) -> None:
    for name, make in (("right", HEAVIEST["wide_texts"]), ("cut", lambda: b"GGUF")):
        (tmp_path / name).write_bytes(make())
        assert not try_file(tmp_path / name, name == "right").faults
        assert try_file(tmp_path / name, name != "right").faults


@pytest.mark.parametrize("error", [ModelError("a"), ZeroDivisionError(), MemoryError(), TimeoutError()])
def test_an_error_that_should_not_come_misses_a_bar(error: Exception) -> None:
    def fail() -> str:
        raise error

    figures = Figures()
    figures.attempt("a file", fail)
    assert figures.missed() == ["1 faults"]
    assert type(error).__name__ in figures.faults[0]


def test_time_and_memory_miss_their_bars() -> None:
    assert Figures(longest_s=1.5, longest="a", peak_bytes=BAR_BYTES).missed() == ["1.50 s for a"]
    assert Figures(longest_s=0.5, peak_bytes=BAR_BYTES + (1 << 20)).missed() == ["257 MiB of memory"]


def test_every_class_is_tried_one_way_or_the_other() -> None:
    assert 0 < sum(made.large for made in MALFORMED.values()) < len(MALFORMED)
