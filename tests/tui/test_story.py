"""The event log: what happened, in the words that a person would use."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerinfer.control.events import (
    ClusterEvent,
    InstancesChanged,
    LeaderChanged,
    MemberAppeared,
    MemberChanged,
    MemberLeft,
    NeighboursChanged,
    SnapshotReceived,
)
from peerinfer.control.state import (
    Ballot,
    ClusterState,
    Epoch,
    Instance,
    InstanceState,
    Liveness,
    Neighbour,
    NodeReport,
    OwnerPolicy,
    StagePlace,
)
from tests.tui.scenes import ATTIC, DESK, LAP, MAC, OLD, five_nodes, one_node
from tui.mesh.view import MeshView

WHOLE = five_nodes()
RING = WHOLE.instances[0]
HEALED = replace(
    RING,
    epoch=Epoch(12, DESK, 4),
    stages=(*RING.stages[:3], StagePlace(ATTIC, "llama.cpp", 32, 36)),
)


def told(start: ClusterState, *events: tuple[float, ClusterEvent]) -> list[str]:
    """What the log says of events at their times."""
    view = MeshView()
    view.take(start, 0.0, 0.0)
    for at, event in events:
        view.take(event, at, at)
    return [timed.line.text for timed in view.lines]


def with_state(instance: Instance, state: InstanceState) -> InstancesChanged:
    return InstancesChanged((replace(instance, state=state),))


def report_of(node: str) -> NodeReport:
    member = WHOLE.member(node)
    assert member is not None
    assert member.report is not None
    return member.report


def test_a_lost_node_and_who_took_its_layers_in_what_time() -> None:
    lost = (MemberChanged(OLD, "bedroom-pc", Liveness.UNREACHABLE), MemberChanged(OLD, "bedroom-pc", Liveness.GONE))
    assert told(
        WHOLE,
        (10.0, lost[0]),
        (10.4, with_state(HEALED, InstanceState.LOADING)),
        (12.0, lost[1]),
        (13.1, with_state(HEALED, InstanceState.READY)),
    ) == [
        "bedroom-pc does not answer.",
        "bedroom-pc left.",
        "bedroom-pc left; its layers 32–36 went to attic in 3.1 s.",
    ]


def test_layers_that_went_to_several_are_told_apart() -> None:
    stages = (*RING.stages[:2], StagePlace(MAC, "mlx", 24, 34), StagePlace(ATTIC, "llama.cpp", 34, 36))
    healed = replace(HEALED, stages=stages)
    lines = told(
        WHOLE,
        (1.0, MemberLeft(OLD)),
        (1.5, with_state(healed, InstanceState.LOADING)),
        (4.0, with_state(healed, InstanceState.READY)),
    )
    assert lines[-1].startswith("eeeeeeee left; its layers 32–36 went to Anna's MacBook Pro (32–34) and attic (34–36)")


def test_a_move_without_a_loss_says_where_the_layers_are_now() -> None:
    draining = replace(RING, state=InstanceState.DRAINING)
    coming = replace(HEALED, state=InstanceState.LOADING)
    assert told(
        WHOLE,
        (5.0, InstancesChanged((draining, coming))),
        (9.0, InstancesChanged((draining, HEALED))),
        (9.5, InstancesChanged((HEALED,))),
    ) == ["qwen3:4b moved in 4.0 s: desk 0–18, kitchen-laptop 18–24, Anna's MacBook Pro 24–32, attic 32–36."]


def test_a_first_load_from_its_beginning_to_its_end() -> None:
    alone = replace(RING, stages=(StagePlace(DESK, "llama.cpp", 0, 36),))
    assert told(
        replace(WHOLE, instances=()),
        (1.0, with_state(alone, InstanceState.LOADING)),
        (7.5, with_state(alone, InstanceState.READY)),
        (9.0, InstancesChanged(())),
    ) == [
        "qwen3:4b is being loaded: desk 0–36.",
        "qwen3:4b is ready after 6.5 s: desk 0–36.",
        "qwen3:4b was unloaded.",
    ]


def test_what_fails_says_why_once() -> None:
    failed = replace(RING, state=InstanceState.FAILED, reason="It needs 3 GB more.")
    assert told(WHOLE, (1.0, InstancesChanged((failed,))), (2.0, InstancesChanged((failed, HEALED)))) == [
        "qwen3:4b does not run: It needs 3 GB more."
    ]


def test_an_engine_that_died_and_came_back() -> None:
    assert told(
        WHOLE, (1.0, with_state(RING, InstanceState.LOADING)), (3.0, with_state(RING, InstanceState.READY))
    ) == ["qwen3:4b is ready again after 2.0 s."]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (MemberAppeared("f" * 32, "guest", Liveness.ALIVE), "guest is in the mesh now."),
        (MemberChanged(OLD, "bedroom-pc", Liveness.GONE), "bedroom-pc left."),
        (MemberChanged(LAP, "sofa-laptop", Liveness.ALIVE), "kitchen-laptop is called sofa-laptop now."),
        (MemberLeft(ATTIC), "attic is no longer a member."),
        (LeaderChanged(DESK, Ballot(13, DESK)), "desk leads now with ballot 13."),
        (LeaderChanged(None, None), "Nobody leads the mesh."),
        (
            NeighboursChanged((Neighbour("10.0.0.9:8643", pairing=True),)),
            "A mesh at 10.0.0.9:8643 invites: press j to join it.",
        ),
        (SnapshotReceived(DESK, replace(report_of(DESK), on_battery=True)), "desk runs on its battery now."),
        (SnapshotReceived(LAP, replace(report_of(LAP), on_battery=False)), "kitchen-laptop has mains power again."),
        (SnapshotReceived(LAP, replace(report_of(LAP), lid_closed=True)), "kitchen-laptop closed its lid."),
        (SnapshotReceived(OLD, replace(report_of(OLD), thermal="serious")), "bedroom-pc is hot and slows down."),
        (
            SnapshotReceived(OLD, replace(report_of(OLD), policy=OwnerPolicy(exclude=True))),
            "bedroom-pc is kept out by its owner.",
        ),
        (
            SnapshotReceived(OLD, replace(report_of(OLD), troubles=(("nvidia", "gone"),))),
            "bedroom-pc cannot tell or run all that it should: nvidia.",
        ),
    ],
)
def test_what_else_happens(event: ClusterEvent, line: str) -> None:
    assert told(WHOLE, (1.0, event)) == [line]


@pytest.mark.parametrize(
    "event",
    [
        MemberAppeared(LAP, "kitchen-laptop", Liveness.ALIVE),
        MemberChanged("9" * 32, "nobody", Liveness.GONE),
        LeaderChanged(LAP, Ballot(14, LAP)),
        SnapshotReceived(DESK, report_of(DESK)),
        InstancesChanged((RING,)),
        NeighboursChanged((Neighbour("10.0.0.9:8643", pairing=False),)),
    ],
)
def test_what_is_no_news_is_not_told(event: ClusterEvent) -> None:
    assert told(WHOLE, (1.0, event)) == []


def test_the_node_that_was_away_is_told_once_it_is_back() -> None:
    view = MeshView()
    for at in range(2):
        view.take(WHOLE, float(at), 0.0)
    assert [timed.line.text for timed in view.lines] == ["The node answers again."]
    view.take(replace(one_node(), mesh="6f" * 16), 3.0, 0.0)
    assert [timed.line.text for timed in view.lines][1:] == ["This machine is in the mesh 6f6f6f6f now."]
