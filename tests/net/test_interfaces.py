"""Which interfaces lead to peers."""

from __future__ import annotations

import ipaddress

import pytest

from peerinfer.net.interfaces import LOOPBACK, Interface, is_virtual, machine_interfaces, peer_addresses, reachable_host

EVERYWHERE = "0.0.0.0"  # noqa: S104 - a value for a pure function, never bound
LAPTOP = (
    Interface("docker0", ("172.17.0.1",)),
    Interface("eth0", ("192.0.2.7", "192.0.2.8")),
    Interface("lo", ("127.0.0.1",)),
    Interface("tailscale0", ("100.64.0.1",)),
    Interface("wlan0", ("198.51.100.7",)),
)


def test_a_node_that_listens_everywhere_is_announced_on_real_interfaces():
    for everywhere in (EVERYWHERE, "::", ""):
        assert peer_addresses(LAPTOP, everywhere) == ("192.0.2.7", "192.0.2.8", "198.51.100.7")


def test_virtual_interfaces_are_taken_when_asked_for():
    assert "172.17.0.1" in peer_addresses(LAPTOP, EVERYWHERE, include_virtual=True)


def test_a_node_that_listens_on_one_address_is_announced_there_only():
    assert peer_addresses(LAPTOP, "192.0.2.8") == ("192.0.2.8",)
    assert peer_addresses(LAPTOP, "127.0.0.1") == (LOOPBACK,)
    assert peer_addresses(LAPTOP, "localhost") == peer_addresses(LAPTOP, "::1") == (LOOPBACK,)


def test_a_machine_without_a_network_still_has_loopback():
    assert peer_addresses((Interface("lo", ("127.0.0.1",)), Interface("docker0", ("172.17.0.1",))), EVERYWHERE) == (
        LOOPBACK,
    )


@pytest.mark.parametrize(
    "name", ["docker0", "br-12ab", "veth9", "virbr0", "tun0", "wg0", "utun3", "vmnet8", "bridge100", "vEthernet (WSL)"]
)
def test_virtual_names(name: str):
    assert is_virtual(name)


@pytest.mark.parametrize("name", ["eth0", "en0", "wlp3s0", "enp0s31f6", "bridge0", "Wi-Fi", "Ethernet 2", "lo"])
def test_real_names(name: str):
    assert not is_virtual(name)


def test_this_machine_has_interfaces_with_valid_addresses():
    for interface in machine_interfaces():
        for address in interface.addresses:
            ipaddress.IPv4Address(address)


def test_an_invitation_names_an_address_also_where_no_route_leads_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(_socket: object, _address: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("peerinfer.net.interfaces.socket.socket.connect", unreachable)
    monkeypatch.setattr("peerinfer.net.interfaces.machine_interfaces", lambda: LAPTOP)
    assert reachable_host(EVERYWHERE) == "192.0.2.7"
    monkeypatch.setattr("peerinfer.net.interfaces.machine_interfaces", lambda: LAPTOP[2:3])
    assert reachable_host(EVERYWHERE) == LOOPBACK
    assert reachable_host("192.168.1.5") == "192.168.1.5"
