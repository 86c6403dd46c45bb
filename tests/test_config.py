"""Addresses and names from the command line and the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from peerinfer.config import Listen, api_hosts_from_environment, default_home, default_name
from peerinfer.errors import ConfigInvalid
from peerinfer.names import clean_name


@pytest.mark.parametrize("text", ["127.0.0.1:8642", "localhost:0", "[::1]:80", "0.0.0.0:65535"])
def test_addresses_read_and_print_the_same(text: str) -> None:
    assert str(Listen.parse(text)) == text


@pytest.mark.parametrize("text", ["", "8642", ":8642", "host:", "host:x", "host:-1", "host:65536", "::1:80", "a/b:1"])
def test_bad_addresses_are_told(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="HOST:PORT"):
        Listen.parse(text)


def test_names_are_cleaned() -> None:
    assert clean_name(" de\x1b[31msk\u202e\n ") == "de[31msk"
    assert len(clean_name("x" * 100)) == 64
    assert default_name()


def test_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PEERINFER_HOME", str(tmp_path))
    monkeypatch.setenv("PEERINFER_API_HOSTS", "ai.example:443, Other:80,")
    assert default_home() == tmp_path
    assert api_hosts_from_environment() == ("ai.example:443", "other:80")
    monkeypatch.setenv("PEERINFER_HOME", "")
    assert default_home().name == "peerinfer"
