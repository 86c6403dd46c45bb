"""The file of remembered addresses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peerinfer.net.link_messages import PEERS_MAX
from peerinfer.net.peer_book import FILE_MAX_BYTES, REMEMBERED_MAX, PeerBook
from tests.net.mesh import node_id

ADA, BOB = node_id(2), node_id(3)


def test_what_was_remembered_is_there_after_a_restart_the_latest_first(tmp_path: Path):
    book = PeerBook(tmp_path / "peers.json")
    assert book.load() == {}
    for n in range(1, 7):
        book.remember(ADA, f"192.0.2.{n}:1")
    book.remember(ADA, "192.0.2.4:1")
    book.remember(BOB, "[2001:db8::1]:1")
    book.remember(BOB, "a-name.local:1")
    assert book.changed
    book.save()
    assert not book.changed
    again = PeerBook(tmp_path / "peers.json").load()
    assert again == {ADA: ("192.0.2.4:1", "192.0.2.6:1", "192.0.2.5:1", "192.0.2.3:1"), BOB: ("[2001:db8::1]:1",)}
    assert len(again[ADA]) == REMEMBERED_MAX


def test_forgotten_members_leave_the_file(tmp_path: Path):
    book = PeerBook(tmp_path / "peers.json")
    book.remember(ADA, "192.0.2.1:1")
    book.forget([ADA, BOB])
    book.save()
    assert PeerBook(tmp_path / "peers.json").load() == {}


def test_the_book_keeps_the_latest_members_only(tmp_path: Path):
    book = PeerBook(tmp_path / "peers.json")
    for n in range(PEERS_MAX + 3):
        book.remember(node_id(n), "192.0.2.1:1")
    book.save()
    kept = PeerBook(tmp_path / "peers.json").load()
    assert list(kept) == [node_id(n) for n in range(3, PEERS_MAX + 3)]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"version": 2, "peers": {}}',
        '{"version": 1, "peers": []}',
        json.dumps({"version": 1, "peers": {"../../etc": []}}),
        json.dumps({"version": 1, "peers": {ADA: "192.0.2.1:1"}}),
        json.dumps({"version": 1, "peers": {ADA: [1]}}),
        json.dumps({"version": 1, "peers": {}}) + " " * FILE_MAX_BYTES,
        "\xff",
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_an_empty_book_and_a_warning(content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "peers.json"
    path.write_text(content, encoding="latin-1")
    book = PeerBook(path)
    assert book.load() == {}
    assert "learned anew" in caplog.text
    book.remember(ADA, "192.0.2.1:1")
    book.save()
    assert PeerBook(path).load() == {ADA: ("192.0.2.1:1",)}


def test_a_folder_that_is_gone_is_only_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    book = PeerBook(tmp_path / "gone" / "peers.json")
    book.remember(ADA, "192.0.2.1:1")
    book.save()
    assert "could not be saved" in caplog.text
