"""Links of real nodes over real TLS on loopback measure each other, and a busy node is left alone."""

from __future__ import annotations

import asyncio

import pytest

from peerinfer.clock import monotonic
from peerinfer.net.probe_messages import ProbeReady
from peerinfer.telemetry import prober
from peerinfer.telemetry.link_service import LinkService
from tests.net.mesh import mesh_of, pair, until


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prober, "FIRST_S", 0.1)
    monkeypatch.setattr("peerinfer.telemetry.link_service.TICK_S", 0.02)


async def test_two_nodes_measure_their_link_both_ways() -> None:
    a, b = pair()
    services = [LinkService(node.board, lambda: False, monotonic) for node in (a, b)]
    duties = [asyncio.create_task(service.run()) for service in services]
    async with mesh_of(a, b):
        await a.connector.dial(b.address)
        await until(lambda: all(one.told() and one.told()[0].bandwidth_bytes_per_s > 0 for one in services), 30)
        (told,) = services[0].told()
        assert told.peer == b.id
        assert told.rtt_us > 0
        assert told.bandwidth_bytes_per_s > 1e6
    for duty in duties:
        duty.cancel()
    await asyncio.gather(*duties, return_exceptions=True)
    assert services[0].told() == ()


async def test_a_node_at_work_is_left_alone() -> None:
    a, b = pair()
    busy = LinkService(b.board, lambda: True, monotonic)
    asking = LinkService(a.board, lambda: False, monotonic)
    said: list[object] = []
    a.board.on(ProbeReady, lambda _, message: said.append(message))
    duty = asyncio.create_task(asking.run())
    async with mesh_of(a, b):
        await a.connector.dial(b.address)
        await until(lambda: said, 30)
        assert said == [ProbeReady(1, False)]
        assert [link.bandwidth_bytes_per_s for link in asking.told()] in ([], [0.0])
        assert all(link.bandwidth_bytes_per_s == 0 for link in busy.told())
    duty.cancel()
    await asyncio.gather(duty, return_exceptions=True)
