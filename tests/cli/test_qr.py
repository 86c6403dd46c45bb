"""The QR code of an invitation."""

from __future__ import annotations

from peerinfer.cli.qr import qr_text


def test_the_qr_code_fits_a_terminal() -> None:
    lines = qr_text("peerinfer://join?at=192.168.100.100:65535&mesh=" + "ab" * 16 + "&secret=" + "cd" * 16).splitlines()
    assert 20 < len(lines) < 40
