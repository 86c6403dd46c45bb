"""What a machine's owner allows: set, kept across starts, and never lost to a damaged file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.errors import BadParameter, ConfigInvalid, HomeError
from peerinfer.gossip.snapshot import OwnerPolicy
from peerinfer.node.policy import KEYS, NodePolicy, PolicyDesk, shown_text


def test_without_a_file_everything_is_allowed(tmp_path: Path) -> None:
    desk = PolicyDesk(tmp_path)
    assert desk.owner() == OwnerPolicy()
    assert desk.allowed(("llama.cpp", "mlx")) == ("llama.cpp", "mlx")
    assert not (tmp_path / "config.json").exists()


def test_what_is_set_is_there_after_a_start(tmp_path: Path) -> None:
    desk = PolicyDesk(tmp_path)
    for key, value in (
        ("keep-light", "yes"),
        ("never-on-battery", "on"),
        ("memory-limit", "7.5 GB"),
        ("exclude", "TRUE"),
        ("engines", "mlx, LLAMA.CPP, mlx"),
    ):
        desk.set(key, value)
    again = PolicyDesk(tmp_path)
    assert again.current == desk.current
    assert again.owner() == OwnerPolicy(True, True, 7_500_000_000, True)
    assert again.current.engines == ("mlx", "llama.cpp")
    for key, value in (("keep-light", "no"), ("memory-limit", "none"), ("exclude", "off"), ("engines", "all")):
        again.set(key, value)
    assert PolicyDesk(tmp_path).current == NodePolicy(OwnerPolicy(never_on_battery=True))


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("keep-dark", "yes", "There is no setting keep-dark. Settings: keep-light,"),
        ("keep-light", "maybe", "keep-light is yes or no, not 'maybe'."),
        ("exclude", "", "exclude is yes or no"),
        ("memory-limit", "8", "such as 8GB, or none; not '8'."),
        ("memory-limit", "-8GB", "such as 8GB"),
        ("memory-limit", "10kB", "memory-limit is from 1MB to 1000TB"),
        ("memory-limit", "1001TB", "memory-limit is from 1MB to 1000TB"),
        ("engines", "vllm", "engines is all, or some of llama.cpp, mlx"),
        ("engines", ",", "engines is all, or some of llama.cpp, mlx"),
    ],
)
def test_a_bad_value_is_a_sentence_and_changes_nothing(tmp_path: Path, key: str, value: str, sentence: str) -> None:
    desk = PolicyDesk(tmp_path)
    desk.set("exclude", "yes")
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(BadParameter) as caught:
        desk.set(key, value)
    assert sentence in str(caught.value)
    assert desk.owner().exclude
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe\x00", "decode"),
        (b"[]", "it is no JSON object"),
        (b"{}", "its version is missing"),
        (b'{"version": true}', "its version is missing"),
        (b'{"version": 2, "exclude": true}', "its version is 2, and this peerinfer knows 1: update peerinfer"),
        (b'{"version": 1, "exclude": "perhaps"}', "exclude has a value that it cannot have"),
        (b'{"version": 1, "memory-limit": true}', "memory-limit has a value that it cannot have"),
        (b'{"version": 1, "memory-limit": 5}', "from 1MB to 1000TB"),
        (b'{"version": 1, "engines": ["vllm"]}', "engines is all"),
        (b"[" * 60_000, "."),
        (b" " * 70_000, "it is far too large"),
    ],
)
def test_a_damaged_file_is_told_and_kept(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigInvalid) as caught:
        PolicyDesk(tmp_path)
    assert why in str(caught.value)
    assert "It was left as it is" in str(caught.value)
    assert path.read_bytes() == content


def test_keys_of_others_stay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"version": 1, "exclude": true, "quiet-hours": ["22", "7"]}')
    PolicyDesk(tmp_path).set("exclude", "no")
    assert json.loads(path.read_text())["quiet-hours"] == ["22", "7"]


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    desk = PolicyDesk(tmp_path / "home")
    with pytest.raises(HomeError, match=r"config\.json cannot be written"):  # there is no such folder
        desk.set("exclude", "yes")
    assert not desk.owner().exclude


@given(
    st.booleans(),
    st.sampled_from(["none", "1MB", "1GiB", "999TB", "1.25GB"]),
    st.sampled_from(["all", "mlx", "llama.cpp,mlx"]),
)
def test_what_is_shown_can_be_set(flag: bool, limit: str, engines: str) -> None:
    policy = NodePolicy().with_value("memory-limit", limit).with_value("engines", engines)
    policy = policy.with_value("exclude", "yes" if flag else "no")
    copy = NodePolicy()
    for key in KEYS:
        copy = copy.with_value(key, shown_text(key, policy.shown()))
    assert copy == policy
