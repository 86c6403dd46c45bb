"""The worker's obedience: one leader, one ballot, versions that only grow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerinfer.control.effects import Effects, StartStage, StopStage
from peerinfer.control.messages import Ballot, DropStage, HeldPart, Instances, LoadStage, StageReport, StagesHeld
from peerinfer.control.state import Instance, InstanceState, StagePlace
from peerinfer.control.worker import UNWANTED_FOR_S, Worker
from peerinfer.net.effects import SendTo
from peerinfer.net.frames import Epoch

ME, LEADER, OTHER = "m" * 32, "a" * 32, "b" * 32
BALLOT = Ballot(5, LEADER)
INSTANCE = Instance(
    id="i" * 32,
    model="tiny",
    digest="d",
    epoch=Epoch(5, LEADER, 1),
    state=InstanceState.LOADING,
    stages=(StagePlace(OTHER, "llama.cpp", 0, 2), StagePlace(ME, "llama.cpp", 2, 4)),
    context=1,
    slots=1,
)
LOADING = StageReport(INSTANCE.id, INSTANCE.epoch, 1, "loading")
LOADED = StageReport(INSTANCE.id, INSTANCE.epoch, 1, "ready", "", 1.0)


def following() -> Worker:
    worker = Worker(ME)
    worker.follow(LEADER, BALLOT)
    return worker


def obey(
    worker: Worker, message: LoadStage | DropStage, sender: str = LEADER, granted: Ballot | None = BALLOT
) -> Effects:
    """What the worker does upon a command while `granted` is its promise."""
    return worker.receive(sender, message, granted)


def holding() -> Worker:
    worker = following()
    obey(worker, LoadStage(BALLOT, 1, INSTANCE, 1))
    worker.reported(INSTANCE.id, INSTANCE.epoch, "ready", "", 1.0)
    return worker


def listed(state: InstanceState = InstanceState.READY, version: int = 9) -> Instances:
    return Instances(BALLOT, version, (replace(INSTANCE, state=state),))


def test_a_command_of_the_leader_starts_a_stage_and_is_reported() -> None:
    start, report = obey(following(), LoadStage(BALLOT, 1, INSTANCE, 1))
    assert isinstance(start, StartStage)
    assert (start.assignment.instance, start.assignment.stage) == (INSTANCE, 1)
    assert report == SendTo(LEADER, LOADING)


@pytest.mark.parametrize(
    ("sender", "ballot"),
    [
        (OTHER, BALLOT),
        (OTHER, Ballot(6, OTHER)),
        (LEADER, Ballot(4, LEADER)),
        (LEADER, Ballot(6, LEADER)),
        (LEADER, Ballot(5, OTHER)),
    ],
)
def test_another_sender_or_ballot_is_not_obeyed(sender: str, ballot: Ballot) -> None:
    worker = holding()
    assert obey(worker, DropStage(ballot, 99, INSTANCE.id, INSTANCE.epoch), sender) == ()
    assert obey(worker, LoadStage(ballot, 99, replace(INSTANCE, id="j" * 32), 1), sender) == ()


def test_nobody_is_obeyed_before_there_is_a_leader() -> None:
    assert obey(Worker(ME), LoadStage(BALLOT, 1, INSTANCE, 1), granted=None) == ()


def test_a_delayed_drop_does_not_follow_a_newer_load() -> None:
    worker = following()
    obey(worker, LoadStage(BALLOT, 7, INSTANCE, 1))
    for version in (7, 6, 0):
        assert obey(worker, DropStage(BALLOT, version, INSTANCE.id, INSTANCE.epoch)) == ()
    assert obey(worker, DropStage(BALLOT, 8, INSTANCE.id, INSTANCE.epoch)) == (StopStage(INSTANCE.id, INSTANCE.epoch),)


def test_versions_begin_anew_under_a_new_ballot_only() -> None:
    worker = following()
    obey(worker, LoadStage(BALLOT, 50, INSTANCE, 1))
    worker.follow(LEADER, BALLOT)
    assert obey(worker, DropStage(BALLOT, 2, INSTANCE.id, INSTANCE.epoch)) == ()
    newer = Ballot(6, LEADER)
    worker.follow(LEADER, newer)
    assert obey(worker, DropStage(newer, 2, INSTANCE.id, INSTANCE.epoch), granted=newer) != ()


def test_a_stage_that_is_held_is_reported_and_not_started_twice() -> None:
    assert obey(holding(), LoadStage(BALLOT, 2, INSTANCE, 1)) == (SendTo(LEADER, LOADED),)


@pytest.mark.parametrize("stage", [-1, 0, 2])
def test_a_stage_of_another_node_is_not_started(stage: int) -> None:
    assert obey(following(), LoadStage(BALLOT, 1, INSTANCE, stage)) == ()


def test_a_drop_of_another_epoch_leaves_the_stage() -> None:
    worker = holding()
    assert obey(worker, DropStage(BALLOT, 2, INSTANCE.id, Epoch(5, LEADER, 0))) == ()


def test_a_new_leader_hears_what_is_held() -> None:
    part = HeldPart(INSTANCE, 1, "ready", "", 1.0)
    assert holding().follow(OTHER, Ballot(6, OTHER)) == (SendTo(OTHER, StagesHeld(Ballot(6, OTHER), (part,))),)
    assert following().report_all() == (SendTo(LEADER, StagesHeld(BALLOT, ())),), "to hold nothing is told too"
    assert holding().follow(None, None) == ()


def test_progress_is_told_by_the_percent() -> None:
    worker = following()
    obey(worker, LoadStage(BALLOT, 1, INSTANCE, 1))
    told = [worker.reported(INSTANCE.id, INSTANCE.epoch, "loading", "", step / 1000) for step in range(1000)]
    assert 90 <= sum(bool(effects) for effects in told) <= 100


def test_reports_of_what_is_no_longer_held_are_not_told() -> None:
    worker = holding()
    obey(worker, DropStage(BALLOT, 2, INSTANCE.id, INSTANCE.epoch))
    assert worker.reported(INSTANCE.id, INSTANCE.epoch, "failed", "It ended.", 0.0) == ()


def test_a_restarted_worker_denies_what_it_lost() -> None:
    (denial,) = following().reconcile(listed(), 0.0)
    assert isinstance(denial, SendTo)
    assert isinstance(denial.message, StageReport)
    assert (denial.message.state, denial.message.stage) == ("failed", 1)


def test_a_stage_still_to_be_commanded_is_not_denied() -> None:
    assert following().reconcile(listed(InstanceState.LOADING), 0.0) == ()


def test_a_list_of_another_ballot_says_nothing() -> None:
    assert following().reconcile(replace(listed(), ballot=Ballot(4, LEADER)), 0.0) == ()


@pytest.mark.parametrize("instances", [(), (replace(INSTANCE, state=InstanceState.FAILED),)])
def test_what_nobody_wants_for_long_is_let_go(instances: tuple[Instance, ...]) -> None:
    worker = holding()
    assert worker.reconcile(Instances(BALLOT, 9, instances), 100.0) == ()
    assert worker.tick(100.0 + UNWANTED_FOR_S - 1) == ()
    assert worker.tick(100.0 + UNWANTED_FOR_S) == (StopStage(INSTANCE.id, INSTANCE.epoch),)


def test_what_is_wanted_again_stays() -> None:
    worker = holding()
    worker.reconcile(Instances(BALLOT, 9, ()), 100.0)
    worker.reconcile(listed(version=10), 110.0)
    assert worker.tick(100.0 + UNWANTED_FOR_S) == ()
    worker.reconcile(Instances(BALLOT, 11, ()), 200.0)
    assert worker.tick(201.0) == ()
