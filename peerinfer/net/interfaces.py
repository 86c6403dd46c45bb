"""Which of this machine's network interfaces lead to peers: not those of containers, virtual machines and VPNs."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import psutil

LOOPBACK: Final = "127.0.0.1"

_VIRTUAL_PREFIXES: Final = (
    *("docker", "br-", "veth", "virbr", "lxc", "lxd", "podman", "cni", "flannel", "cali", "kube"),  # containers
    *("vmnet", "vboxnet", "bridge1", "vethernet", "vmware", "virtualbox", "hyper-v"),  # virtual machines
    *("tun", "tap", "wg", "utun", "ipsec", "ppp", "tailscale", "zt", "zerotier", "nordlynx", "wireguard", "openvpn"),
    *("awdl", "llw", "anpi", "ap1", "gif", "stf", "teredo", "isatap"),  # Apple's own radio links, tunnels
)
"""Beginnings of interface names, in lower case. macOS numbers its bridges for virtual machines from `bridge100`;
`bridge0` is Thunderbolt and wanted."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface that is up, with its IPv4 addresses."""

    name: str
    addresses: tuple[str, ...]


def machine_interfaces() -> tuple[Interface, ...]:
    """The interfaces of this machine that are up, sorted by name."""
    states = psutil.net_if_stats()
    return tuple(
        Interface(name, tuple(entry.address for entry in entries if entry.family == socket.AF_INET))
        for name, entries in sorted(psutil.net_if_addrs().items())
        if name not in states or states[name].isup
    )


def peer_addresses(interfaces: Iterable[Interface], listen_host: str, include_virtual: bool = False) -> tuple[str, ...]:
    """The IPv4 addresses at which peers reach a node that listens on `listen_host`, sorted.

    A node that listens everywhere takes every interface but loopback and, unless `include_virtual`, virtual ones;
    a machine without any other takes loopback, so that several nodes on it still find each other.
    """
    if listen_host not in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        return (_ipv4_of(listen_host),)
    found = {
        address
        for interface in interfaces
        if include_virtual or not is_virtual(interface.name)
        for address in interface.addresses
        if not ipaddress.ip_address(address).is_loopback
    }
    return tuple(sorted(found)) or (LOOPBACK,)


def is_virtual(name: str) -> bool:
    """Whether an interface of this name belongs to containers, virtual machines or a VPN."""
    return name.lower().startswith(_VIRTUAL_PREFIXES)


def _ipv4_of(host: str) -> str:
    """`host` if it is an IPv4 address, else loopback: a named or IPv6 host is announced to this machine only."""
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        return LOOPBACK


def reachable_host(bind_host: str) -> str:
    """`bind_host` as others can dial it. Nothing is sent: a UDP connect only asks the routing table, and a network that
    leads nowhere else (two laptops and a cable) has no route to ask for: then it is an address of this machine there.
    """
    if bind_host not in {"", "0.0.0.0", "::"}:  # noqa: S104  # compared, not bound
        return bind_host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737): never a neighbour
            return str(probe.getsockname()[0])
        except OSError:
            return peer_addresses(machine_interfaces(), bind_host)[0]
