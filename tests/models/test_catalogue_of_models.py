"""The catalogue: the bundled one is sound, a home's own adds and overrides, and a bad one takes nothing down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.errors import BadRequest, ConfigInvalid, UnknownModel
from peerinfer.models.pull.catalogue import bundled_catalogue, load_catalogue, parse_catalogue
from peerinfer.models.pull.reference import HubReference, ShortName

ENTRY = {
    "name": "mine:1b",
    "ref": "hf:me/mine-GGUF:Q8_0",
    "licence": "MIT",
    "architecture": "llama",
    "download_bytes": 1000,
    "memory_bytes": 2000,
}


def write(home: Path, *entries: object) -> Path:
    path = home / "catalogue.json"
    path.write_text(json.dumps({"models": entries}), encoding="utf-8")
    return path


def test_the_bundled_catalogue_is_sound() -> None:
    catalogue = bundled_catalogue()
    assert 20 <= len(catalogue.entries) <= 40
    assert catalogue.find(ShortName("smollm2:135m")).reference == HubReference(
        "bartowski", "SmolLM2-135M-Instruct-GGUF", "Q4_K_M"
    )
    for entry in catalogue.entries:
        assert isinstance(entry.reference, HubReference)
        assert entry.reference.quant
        assert entry.download_bytes < entry.memory_bytes
        assert catalogue.find(ShortName(entry.name)) == entry
    for family in {entry.family for entry in catalogue.entries}:
        assert catalogue.find(ShortName(family)).family == family
        assert sum(entry.default for entry in catalogue.entries if entry.family == family) <= 1


def test_a_home_adds_and_overrides(tmp_path: Path) -> None:
    own = {**ENTRY, "name": "smollm2:135m"}
    write(tmp_path, ENTRY, own, {**ENTRY, "name": "qwen3:mini", "default": True})
    catalogue = load_catalogue(tmp_path)
    assert catalogue.problems == ()
    assert len(catalogue.entries) == len(bundled_catalogue().entries) + 2
    assert catalogue.find(ShortName("mine")).licence == "MIT"
    assert str(catalogue.find(ShortName("smollm2:135m")).reference) == "hf:me/mine-GGUF:Q8_0"
    assert catalogue.find(ShortName("qwen3")).name == "qwen3:mini"


def test_without_a_file_there_is_the_bundled_one(tmp_path: Path) -> None:
    assert load_catalogue(tmp_path) == bundled_catalogue()


def test_names_that_are_not_there_are_answered_with_what_is(tmp_path: Path) -> None:
    write(tmp_path, {**ENTRY, "name": "two:a"}, {**ENTRY, "name": "two:b"})
    catalogue = load_catalogue(tmp_path)
    with pytest.raises(BadRequest, match="Say which two: two:a, two:b"):
        catalogue.find(ShortName("two"))
    with pytest.raises(UnknownModel, match="It has: two:a, two:b"):
        catalogue.find(ShortName("two:c"))
    with pytest.raises(UnknownModel, match="smollm2"):
        catalogue.find(ShortName("nothing"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "Mine"}, "no short name"),
        ({"name": "../mine"}, "no short name"),
        ({"name": 5}, "name is no text"),
        ({"ref": "/etc/passwd.gguf"}, "is neither hf:"),
        ({"ref": "mine"}, "is neither hf:"),
        ({"ref": "hf:../x"}, "no repository of the hub"),
        ({"ref": "https://h/x.gguf"}, "SHA-256"),
        ({"licence": ""}, "licence is empty"),
        ({"licence": "a\x1b[1m"}, "licence is empty or holds control"),
        ({"about": "x" * 201}, "about is no text"),
        ({"architecture": "a b"}, "architecture"),
        ({"download_bytes": 0}, "download_bytes"),
        ({"download_bytes": True}, "download_bytes"),
        ({"memory_bytes": 1e9}, "memory_bytes"),
        ({"memory_bytes": 1 << 60}, "memory_bytes"),
        ({"default": 1}, "default"),
        ({"surprise": 1}, "unknown field 'surprise'"),
    ],
)
def test_a_bad_entry_is_left_out_and_told(tmp_path: Path, change: dict[str, object], says: str) -> None:
    path = write(tmp_path, {**ENTRY, **change}, {**ENTRY, "name": "good:1b"})
    catalogue = load_catalogue(tmp_path)
    assert catalogue.find(ShortName("good")).licence == "MIT"
    (problem,) = catalogue.problems
    assert problem.startswith(f"{path}: entry 1 is left out: ")
    assert says in problem


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", 'no list "models"'),
        (b'{"models": 5}', 'no list "models"'),
        (json.dumps({"models": [0] * 2001}).encode(), "more than 2000"),
        (b" " * (1 << 20) + b" ", "larger than 1 MiB"),
    ],
)
def test_a_bad_file_does_not_take_the_bundled_one_down(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "catalogue.json").write_bytes(data)
    catalogue = load_catalogue(tmp_path)
    assert catalogue.entries == bundled_catalogue().entries
    assert says in catalogue.problems[0]
    (tmp_path / "catalogue.json").unlink()
    (tmp_path / "catalogue.json").mkdir()
    assert "cannot be read" in load_catalogue(tmp_path).problems[0]


def test_an_entry_that_is_there_twice_counts_once() -> None:
    entries, problems = parse_catalogue(json.dumps({"models": [ENTRY, ENTRY]}).encode())
    assert len(entries) == 1
    assert "is there twice" in problems[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*ENTRY, "x"]), inner, max_size=6),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=4) | JSON)
def test_any_json_gives_entries_or_sentences(models: object) -> None:
    try:
        entries, problems = parse_catalogue(json.dumps({"models": models}).encode())
    except ConfigInvalid:
        return
    assert isinstance(models, list)
    assert len(entries) + len(problems) == len(models)
