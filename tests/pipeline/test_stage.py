"""Where a stage's time goes, on a clock that the test moves: what is the engine's, what is the wait, what nobody's."""

from __future__ import annotations

import asyncio

import pytest

from peerinfer.control.state import Instance, InstanceState, StagePlace
from peerinfer.engine.base import SampledToken
from peerinfer.engine.calls import TIMES
from peerinfer.net.frames import Epoch, StepFrame, encode_head
from peerinfer.net.messages import pack_fields
from peerinfer.packing import pack
from peerinfer.pipeline import stage as stages
from peerinfer.pipeline.ring import Ring
from peerinfer.pipeline.stage import RUNNING_MAX, Parts, StageRunner
from peerinfer.pipeline.times import WEIGHT, StageTimes

NODES = ("a" * 32, "b" * 32)
EPOCH = Epoch(1, NODES[0], 1)
INSTANCE = Instance(
    "ab" * 16,
    "tiny",
    "d" * 64,
    EPOCH,
    InstanceState.READY,
    tuple(StagePlace(node, "llama.cpp", 3 * number, 3 * number + 3) for number, node in enumerate(NODES)),
    512,
    4,
)
MOVED = encode_head(StepFrame(bytes.fromhex(INSTANCE.id), EPOCH, 1, (), 0, b"", b"", 0))
SAMPLED = pack([pack_fields(SampledToken(0, 0, "r", NODES[0], 0, 7, ""))])


class Wire:
    """The links and the clock: what is said takes `telling_us`, a frame leaves at once."""

    own_id = NODES[1]

    def __init__(self, telling_us: int) -> None:
        self.now_us = 0
        self._telling_us = telling_us

    def send(self, to: str, message: object) -> None:
        self.now_us += self._telling_us

    def try_send_frame(self, to: str, parts: Parts) -> bool:
        self.now_us += self._telling_us
        return True

    async def send_frame(self, to: str, parts: Parts) -> None:
        raise AssertionError("the link takes all at once")


class Engine:
    """The child, which answers when the test says so."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Future[bytes]] = []

    def run(self, *_frame: object) -> asyncio.Future[bytes]:
        self.calls.append(asyncio.get_running_loop().create_future())
        return self.calls[-1]

    def kill(self) -> None:
        raise AssertionError("it does not hang")


class Bench:
    """One stage between the two."""

    def __init__(self, number: int, monkeypatch: pytest.MonkeyPatch, telling_us: int = 0) -> None:
        self.wire, self.engine = Wire(telling_us), Engine()
        self._output = SAMPLED if number else MOVED
        monkeypatch.setattr(stages, "monotonic_us", lambda: self.wire.now_us)
        self.runner = StageRunner(Ring(INSTANCE, number), self.wire, lambda *_: None, lambda: 0.0)
        self.runner._host = self.engine  # pyright: ignore[reportAttributeAccessIssue]  # shaped like one

    def deliver(self, at_us: int, rows: int = 1) -> None:
        self.wire.now_us = at_us
        self.runner.deliver(1, (b"",), rows)

    async def answer(self, at_us: int, child_us: tuple[int, int, int]) -> None:
        """The call that waits longest is answered."""
        self.wire.now_us = at_us
        next(call for call in self.engine.calls if not call.done()).set_result(TIMES.pack(*child_us) + self._output)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@pytest.mark.parametrize("number", [0, 1])
async def test_a_stage_waits_for_all_but_its_engine(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(number, monkeypatch)
    bench.deliver(1000)
    await bench.answer(6000, (3000, 2500, 100))
    times = bench.runner.times
    assert (times.engine_ms, times.wait_ms, times.pipe_ms) == (2.5, 2.5, 2.0)


@pytest.mark.parametrize(("number", "wait_ms"), [(0, 0.5), (1, 1.5)])
async def test_telling_tokens_is_the_stages_time_and_sending_a_frame_is_the_hops(
    number: int, wait_ms: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last stage tells two: the first stage, and the gateway. A frame's stamp is older than its way."""
    bench = Bench(number, monkeypatch, telling_us=500)
    bench.deliver(0)
    await bench.answer(3000, (2900, 2500, 0))
    assert bench.runner.times.wait_ms == wait_ms


async def test_a_frame_behind_others_waits_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(1, monkeypatch)
    for _ in range(RUNNING_MAX + 1):
        bench.deliver(0)
    assert len(bench.engine.calls) == RUNNING_MAX
    for number, wait_ms in enumerate((0.0, 1.0, 2.0)):
        before = bench.runner.times.wait_ms
        await bench.answer(1000 * (number + 1), (1000, 1000, 0))
        expected = wait_ms if not before else before + WEIGHT * (wait_ms - before)
        assert bench.runner.times.wait_ms == pytest.approx(expected)


async def test_a_prompt_is_no_step_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(0, monkeypatch)
    bench.deliver(0, rows=0)
    await bench.answer(9000, (100, 50, 0))
    assert bench.runner.times == StageTimes()


def test_a_clock_of_the_child_that_runs_ahead_makes_no_wait_below_nothing() -> None:
    times = StageTimes()
    times.step(900, 900, (1000, 950, 0), 1)
    assert (times.wait_ms, times.pipe_ms) == (0.0, 0.0)
