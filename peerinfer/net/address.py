"""Addresses as text: `host:port`, with brackets around an IPv6 host."""

from __future__ import annotations

import ipaddress


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `192.0.2.7:8643`, `[fe80::1]:8643` or `name:8643`. Raises `ValueError` with a sentence."""
    host, colon, digits = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not host or (":" in host) != bracketed or any(c.isspace() or c in "/@?#" for c in host):
        raise ValueError(f"{text[:80]!r} is not an address: write HOST:PORT, for example 192.0.2.7:8643.")
    if not (digits.isascii() and digits.isdigit() and 1 <= int(digits) <= 65_535):
        raise ValueError(f"{text[:80]!r} has no port between 1 and 65535: write HOST:PORT.")
    return host, int(digits)


def join_address(host: str, port: int) -> str:
    """The address of `port` on `host`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_ip_address(text: str) -> bool:
    """Whether `text` is an address whose host is a plain IP address that can be dialled (not a name, not a group)."""
    try:
        host, _ = split_address(text)
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return not (ip.is_multicast or ip.is_unspecified)
