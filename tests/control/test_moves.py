"""When layers move: under noise hardly ever, by rules that would be missed; what a move saves and costs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from peerinfer.control import moves
from peerinfer.control.intents import Intent, IntentBook, Stamp
from peerinfer.control.moves import GAIN, Weighed
from peerinfer.control.placed import Placed
from peerinfer.control.placements import Placements
from peerinfer.control.state import InstanceState
from peerinfer.net.frames import Epoch
from tests.control.cluster import MESH, FakeSigner
from tests.control.led import START_S, TOLD, A, B, commands, leading, loaded, members
from tests.sim.story import Teller

MINUTES = 30
TEN_MINUTES_S = 600.0


def moved_at(seed: int) -> list[float]:
    """Virtual seconds at which another epoch of the model became the one that serves, under ±30 % noise everywhere."""
    teller = Teller()
    for command in ("mesh 3 " + str(seed), "speed 1 1000", "speed 2 1000", "speed 3 1000", "noise 30"):
        teller.tell(command)
    for a, b in (("1", "2"), ("1", "3"), ("2", "3")):
        teller.tell(f"link {a} {b} 3000")
    for command in ("run 6", "load d 1 nodes=2", "run 10"):
        teller.tell(command)
    serving: set[Epoch] = set()
    times: list[float] = []
    for second in range(MINUTES * 60 // 5):
        teller.tell("run 5")
        ready = [one for one in teller.mesh_.host(1).plane.instances if one.state is InstanceState.READY]
        fresh = {one.epoch for one in ready} - serving
        if fresh and serving:
            times.append(second * 5.0)
        serving |= fresh
        assert ready, "something serves at every moment"
    return times


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_moves_nothing_twice_in_ten_minutes(seed: int) -> None:
    times = moved_at(seed)
    assert all(later - earlier > TEN_MINUTES_S for earlier, later in pairwise(times))


def test_without_rounds_and_pauses_noise_would_move_layers_to_and_fro(monkeypatch: pytest.MonkeyPatch) -> None:
    for rule in ("PAUSE_S", "BETTERED_S", "ROUNDS"):
        monkeypatch.setattr(moves, rule, 1)
    times = moved_at(1)
    assert any(later - earlier <= TEN_MINUTES_S for earlier, later in pairwise(times))


@pytest.mark.parametrize(
    ("now_us", "then_us", "cost_s", "tokens", "pays"),
    [
        (100_000, 79_000, 10, 10_000, True),
        (100_000, 81_000, 10, 10_000, False),  # too little
        (100_000, 50_000, 400, 2_000, False),  # it would take longer than it saves
        (100_000, 50_000, 90, 2_000, True),
        (100_000, 120_000, 0, 10_000, False),
        (0, 0, 0, 10_000, False),  # nothing is known
    ],
)
def test_a_move_must_save_a_fifth_and_pay_back(
    now_us: float, then_us: float, cost_s: float, tokens: float, pays: bool
) -> None:
    weighed = Weighed(now_us, then_us, cost_s, tokens)
    assert weighed.pays is pays
    assert (weighed.gain >= GAIN) == (now_us > 0 and then_us <= 0.8 * now_us)


def test_a_model_whose_file_is_nowhere_stays_where_it_runs() -> None:
    leader = leading(A, B)
    stands = loaded(leader)
    leader.see(members(A, B, told=replace(TOLD, models=())), frozenset({A, B}), START_S + 1)
    for later in range(1, 300, 5):
        assert commands(leader.tick(START_S + later)) == []
    assert [one.epoch for one in leader.instances] == [stands.epoch]
    lost = Placed(stands, 0.0, 0.0)
    placements = Placements(IntentBook(A, MESH, FakeSigner(A)))
    assert placements.problem_without(lost, Intent(Stamp(1, A), stands.digest, "tiny", stands.id, True)) is None
