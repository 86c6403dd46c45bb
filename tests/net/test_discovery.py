"""Discovery: what a record says, and nodes that find each other over loopback where the machine has multicast."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.net import discovery as discovery_module
from peerinfer.net.discovery import Discovery, Nearby, Seen, read_record
from peerinfer.net.interfaces import Interface
from tests.net.mesh import until
from tests.net.test_interfaces import EVERYWHERE

OURS, BEFORE, THEIRS = b"our hint", b"previous", b"their ht"
RECORD = {b"v": b"1", b"h": OURS.hex().encode(), b"p": b""}


def test_a_record_is_read():
    assert read_record(["192.0.2.7", "192.0.2.8"], 8643, RECORD) == Seen(
        ("192.0.2.7:8643", "192.0.2.8:8643"), OURS, None
    )
    assert read_record(["192.0.2.7"], 8643, {**RECORD, b"p": b"9000"}) == Seen(("192.0.2.7:8643",), OURS, 9000)


@pytest.mark.parametrize(
    ("hosts", "port", "changed"),
    [
        ([], 8643, {}),
        (["192.0.2.7"], 0, {}),
        (["192.0.2.7"], None, {}),
        (["192.0.2.7"], 8643, {b"v": b"2"}),
        (["192.0.2.7"], 8643, {b"v": None}),
        (["192.0.2.7"], 8643, {b"h": b"zz" * 8}),
        (["192.0.2.7"], 8643, {b"h": b"00" * 9}),
        (["192.0.2.7"], 8643, {b"p": b"99999"}),
        (["192.0.2.7"], 8643, {b"p": b"-1"}),
        (["192.0.2.7"], 8643, {b"p": b"x"}),
    ],
)
def test_other_records_are_passed_over(hosts: list[str], port: int | None, changed: dict[bytes, bytes | None]):
    assert read_record(hosts, port, {**RECORD, **changed}) is None


@given(st.dictionaries(st.sampled_from([b"v", b"h", b"p"]), st.none() | st.binary(max_size=40)))
def test_no_record_raises(properties: dict[bytes, bytes | None]):
    seen = read_record(["192.0.2.7"], 8643, properties)
    assert seen is None or len(seen.hint) == 8


@pytest.fixture(autouse=True)
def _own_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service type of this test's own: other nodes may run on this machine."""
    monkeypatch.setattr(discovery_module, "SERVICE", f"_p{secrets.token_hex(5)}._tcp.local.")


class Found:
    """A discovery on loopback, and what it found."""

    def __init__(self, port: int, *hints: bytes, host: str = "127.0.0.1", names: str = "eth0") -> None:
        self.addresses: list[str] = []
        self.hints = list(hints)
        self.interfaces: tuple[Interface, ...] = (Interface(names, ("127.0.0.1",)),)
        self.discovery = Discovery(
            host, port, lambda: self.hints, self.addresses.append, interfaces=lambda: self.interfaces
        )


@contextlib.asynccontextmanager
async def announced(*nodes: Found):
    """The nodes, started; skips where mDNS over loopback does not work."""
    try:
        for node in nodes:
            await node.discovery.start()
            if node.discovery._zeroconf is None:
                pytest.skip("this machine has no multicast on loopback")
        yield
    finally:
        for node in nodes:
            await node.discovery.close()


async def expect(condition: Callable[[], object]) -> None:
    await until(condition, timeout_s=20.0)


async def test_members_find_each_other_and_others_are_nearby():
    ada, bob, other = Found(41001, OURS, BEFORE), Found(41002, BEFORE, OURS), Found(41003, THEIRS)
    async with announced(ada, bob, other):
        await expect(lambda: ada.addresses and bob.addresses and ada.discovery.nearby() and bob.discovery.nearby())
        assert set(ada.addresses) == {"127.0.0.1:41002"}
        assert set(bob.addresses) == {"127.0.0.1:41001"}
        assert ada.discovery.nearby() == (Nearby("127.0.0.1:41003", False, None, THEIRS.hex()),)
        await expect(lambda: len(other.discovery.nearby()) == 2)
        assert other.addresses == []


async def test_a_pairing_window_shows_while_it_is_open():
    ada, other = Found(41011, OURS), Found(41012, THEIRS)
    async with announced(ada, other):
        await expect(ada.discovery.nearby)
        other.discovery.show_pairing(9000)
        await expect(lambda: ada.discovery.nearby() == (Nearby("127.0.0.1:41012", True, 9000, THEIRS.hex()),))
        other.discovery.show_pairing(None)
        await expect(lambda: ada.discovery.nearby() == (Nearby("127.0.0.1:41012", False, None, THEIRS.hex()),))


async def test_a_changed_hint_is_announced_and_recognised(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(discovery_module, "POLL_S", 0.05)
    ada, bob = Found(41021, OURS), Found(41022, THEIRS)
    async with announced(ada, bob):
        await expect(ada.discovery.nearby)
        bob.hints = [OURS]  # it has joined
        await expect(lambda: ada.addresses and bob.addresses)
        assert ada.discovery.nearby() == ()


async def test_a_node_that_leaves_or_moves_is_followed():
    ada, other = Found(41031, OURS), Found(41032, THEIRS)
    async with announced(ada, other):
        await expect(ada.discovery.nearby)
        other.discovery.rescan()
        await expect(lambda: not ada.discovery.nearby())
        await expect(ada.discovery.nearby)
        await other.discovery.close()
        await expect(lambda: not ada.discovery.nearby())


async def test_without_multicast_there_is_one_warning_and_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    tries: list[object] = []

    def fail(**options: object) -> None:
        tries.append(options)
        raise OSError("No such device")

    monkeypatch.setattr(discovery_module, "AsyncZeroconf", fail)
    monkeypatch.setattr(discovery_module, "POLL_S", 0.001)
    node = Found(41041, OURS)
    await node.discovery.start()
    await expect(lambda: len(tries) > 3)
    await node.discovery.close()
    assert caplog.text.count("mDNS does not work here") == 1
    assert node.discovery.nearby() == ()


async def test_a_loopback_node_binds_loopback_only_and_interface_changes_rebind(monkeypatch: pytest.MonkeyPatch):
    bound: list[object] = []

    def fail(**options: object) -> None:
        bound.append(options["interfaces"])
        raise OSError("not in this test")

    monkeypatch.setattr(discovery_module, "AsyncZeroconf", fail)
    monkeypatch.setattr(discovery_module, "POLL_S", 0.001)
    for host, expected in (("127.0.0.1", ["127.0.0.1"]), (EVERYWHERE, ["192.0.2.7"])):
        bound.clear()
        node = Found(41051, OURS, host=host)
        node.interfaces = (Interface("eth0", ("192.0.2.7",)), Interface("docker0", ("172.17.0.1",)))
        await node.discovery.start()
        assert bound[0] == expected
        node.interfaces = (Interface("wlan0", ("198.51.100.7",)),)
        await expect(lambda: len(bound) > 2)
        await node.discovery.close()
        assert bound[-1] == (["127.0.0.1"] if host == "127.0.0.1" else ["198.51.100.7"])
