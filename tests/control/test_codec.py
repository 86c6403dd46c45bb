"""States and events as JSON: back as they were, strict about everything else, open to what a newer daemon adds."""

from __future__ import annotations

import json
import typing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.control import codec
from peerinfer.control.codec import decode_event, decode_state, encode_event, encode_state
from peerinfer.control.events import ClusterEvent, LinkMeasured, MemberAppeared, MemberLeft, SnapshotReceived
from peerinfer.control.observer import report_of
from peerinfer.control.state import ClusterLink, ClusterMember, ClusterState, Liveness, NodeReport
from peerinfer.errors import BadFrame, PeerinferError
from peerinfer.gossip.snapshot import Device, HeldStage, Snapshot
from peerinfer.gossip.snapshot_codec import decode_snapshot, encode_snapshot
from peerinfer.net.frames import Epoch
from tests.control import histories

STATE = ClusterState(
    "a", "m", members=(ClusterMember("a", "attic", Liveness.ALIVE, NodeReport("1", 16, 9, engines=("llama.cpp",))),)
)
LINK = LinkMeasured(ClusterLink("a", "b", 1.5))
odd = st.sampled_from([None, True, 0, -1, 2**70, 0.5, -0.5, "", "a", "alive", [], {}])
json_values = odd | st.lists(odd, max_size=2) | st.dictionaries(st.sampled_from(["node", "id", "state"]), odd)
FIELDS = (
    "node",
    "mesh",
    "name",
    "state",
    "report",
    "link",
    "members",
    "links",
    "instances",
    "speed",
    "ballot",
    "leader",
)


def as_json(text: str) -> dict[str, Any]:
    return json.loads(text)


@histories.unhurried
@given(histories.states)
def test_a_state_comes_back_as_it_was(state: ClusterState) -> None:
    text = encode_state(state)
    assert "\n" not in text
    assert decode_state(text.encode("ascii")) == state


@histories.unhurried
@given(histories.events)
def test_an_event_comes_back_as_it_was(event: ClusterEvent) -> None:
    text = encode_event(event)
    assert "\n" not in text
    assert decode_event(text.encode("ascii")) == event


def test_every_event_has_its_name() -> None:
    assert set(codec.EVENTS.values()) == set(typing.get_args(ClusterEvent))
    assert as_json(encode_event(MemberLeft("a"))) == {"type": "member_left", "node": "a"}


def test_what_a_newer_daemon_adds_is_passed_over() -> None:
    assert decode_event(b'{"type": "moon_rose", "phase": {"full": true}}') is None
    assert decode_event(b'{"type": "member_left", "node": "a", "why": "bored"}') == MemberLeft("a")
    assert decode_state(json.dumps({**as_json(encode_state(STATE)), "moon": "full"}).encode()) == STATE


def test_what_has_a_default_may_be_missing() -> None:
    assert decode_state(b'{"node": "a", "mesh": "m"}') == ClusterState("a", "m")


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        (["node"], None, "ClusterState.node is not a text"),
        (["node"], 5, "ClusterState.node is not a text"),
        (["node"], "x" * (codec.TEXT_MAX + 1), "at most 65536 characters"),
        (["node"], "\ud800", "surrogate"),
        (["members"], {}, "ClusterState.members is not a list"),
        (["members"], [[]], "ClusterState.members is not an object"),
        (["members"], [None] * (codec.ITEMS_MAX + 1), "at most 4096 items"),
        (["members", 0, "state"], "asleep", "not one of alive, unreachable, gone"),
        (["members", 0, "state"], ["alive"], "not one of alive"),
        (["members", 0, "report", "memory_bytes"], -1, "whole number"),
        (["members", 0, "report", "memory_bytes"], 1.5, "whole number"),
        (["members", 0, "report", "memory_bytes"], True, "whole number"),
        (["members", 0, "report", "memory_bytes"], 2**63, "whole number"),
        (["members", 0, "report", "on_battery"], 1, "true or false"),
        (["members", 0, "report", "engines"], [None], "engines is not a text"),
        (["ballot"], {"counter": 2**62 + 1, "node": "a"}, "a ballot out of range"),
        (["links"], [{"origin": "a", "target": "b"}], "ClusterLink.rtt_us is missing"),
        (["instances"], [{}], "Instance.id is missing"),
    ],
)
def test_malformed_states_are_refused(path: list[str | int], value: object, match: str) -> None:
    raw: Any = as_json(encode_state(STATE))
    place = raw
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(BadFrame, match=match):
        decode_state(json.dumps(raw).encode())


@pytest.mark.parametrize("rtt", ["-0.1", "1e999", "true", '"1"', "[]", "1" + "0" * 400])
def test_measures_are_finite_and_not_negative(rtt: str) -> None:
    text = encode_event(LINK).replace("1.5", rtt)
    with pytest.raises(BadFrame, match="finite number"):
        decode_event(text.encode())


def test_a_whole_measure_is_one_too() -> None:
    assert decode_event(encode_event(LINK).replace("1.5", "2").encode()) == LinkMeasured(ClusterLink("a", "b", 2.0))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"[]",
        b"null",
        b'"text"',
        b"\xff{}",
        b'{"node": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"type": "link_lost", "origin": ' + b"1" * 5000 + b"}",
        b"{}",
        b'{"type": null}',
        b'{"type": ["member_left"]}',
        b'{"type": "member_left"}',
        b'{"type": "member_left", "node": {}}',
    ],
)
def test_what_is_no_event_is_refused_with_a_sentence(data: bytes) -> None:
    with pytest.raises(BadFrame, match=r"^[A-Z].*\.$"):
        decode_event(data)
    with pytest.raises(BadFrame, match=r"^[A-Z].*\.$"):
        decode_state(data)


def test_too_much_json_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "JSON_MAX_BYTES", 10)
    with pytest.raises(BadFrame, match="over the limit of 10"):
        decode_state(b" " * 11)


@histories.unhurried
@given(st.sampled_from(sorted(codec.EVENTS)), st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_no_json_breaks_the_reader(kind: str, fields: dict[str, object]) -> None:
    for read in (decode_event, decode_state):
        try:
            read(json.dumps({**fields, "type": kind}).encode())
        except PeerinferError:
            continue


@histories.unhurried
@given(st.binary(max_size=64))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    with pytest.raises(BadFrame):
        decode_event(data)


def test_what_is_not_finite_is_never_sent() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_event(LinkMeasured(replace(LINK.link, rtt_us=float("inf"))))


def test_appearing_shows_its_fields_by_name() -> None:
    shown = as_json(encode_event(MemberAppeared("a", "attic", Liveness.GONE)))
    assert shown == {"type": "member_appeared", "node": "a", "name": "attic", "state": "gone"}


measures = st.floats(0, 1e30)
signed = st.floats(-1e30, 1e30)
told_devices = st.builds(
    Device,
    st.just("cpu"),
    st.just("A processor"),
    utilisation=st.none() | measures,
    temperature_c=st.none() | signed,
    power_w=st.none() | measures,
    clock_mhz=st.none() | measures,
)


@given(
    st.lists(told_devices, max_size=3),
    st.none() | measures,
    st.lists(
        st.builds(
            HeldStage,
            st.just("a" * 32),
            st.just(Epoch(1, "b" * 32, 2)),
            st.integers(0, 9),
            st.just("ready"),
            measures,
            measures,
            measures,
            st.integers(0, 9),
            measures,
        ),
        max_size=2,
    ),
)
def test_what_gossip_lets_in_can_be_told(devices: list[Device], charge: float | None, stages: list[HeldStage]) -> None:
    """A reader who cannot read one member's snapshot would see none of the mesh."""
    snapshot = Snapshot("desk", "0.1.0", 10, 5, tuple(devices), battery_percent=charge, stages=tuple(stages))
    let_in = decode_snapshot(encode_snapshot(snapshot))
    event = SnapshotReceived("a", report_of(let_in))
    assert decode_event(encode_event(event).encode()) == event


@pytest.mark.parametrize("heat", ["warm", True, [], 10**400])
def test_a_temperature_is_a_finite_number_of_either_sign(heat: object) -> None:
    cold = SnapshotReceived("a", report_of(Snapshot("desk", "0.1.0", 10, 5, (Device("cpu", "c", temperature_c=-3.5),))))
    fields = as_json(encode_event(cold))
    assert decode_event(json.dumps(fields).encode()) == cold
    fields["report"]["devices"][0]["temperature_c"] = heat
    with pytest.raises(BadFrame, match="temperature_c is not a finite number"):
        decode_event(json.dumps(fields).encode())
