"""The contract of a stage engine, the same for every engine: what a stage of llama.cpp does, one of MLX does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from peerinfer.engine.base import CloseSlot, OpenSlot, Order, Sampling, StageSpec, TruncateSlot
from peerinfer.engine.calls import FACTS, LOAD, STEP, TIMES
from peerinfer.engine.host import StageHost, sampled_tokens, split_answer
from peerinfer.engine.kinds import MLX
from peerinfer.engine.orders import encode_orders
from peerinfer.engine.worker import StageService
from peerinfer.errors import BadFrame, Desync, UnsupportedModel
from peerinfer.net.frames import Epoch, Row, StepFrame, encode_frame
from peerinfer.net.messages import pack_fields
from peerinfer.packing import pack, unpack
from tests.engine.chains import Chain, Stages, stages
from tests.engine.engines import GPU_OFF, IS_ON_GPU, each_engine
from tests.tiny_architectures import MODELS
from tests.tiny_parts import KV_HEADS, VOCAB, WIDTH, write_tiny

SAME = GPU_OFF if IS_ON_GPU else 2e-3
"""Relative to the spread of logits: keys and values are kept in 16 bits, and sums are taken in another order."""
FAMILIES = ["llama", "qwen2", "qwen3", "gemma2", "gemma3", "gemma3 of its own period", "phi3"]
IDS = np.random.default_rng(11).integers(3, VOCAB, 64).astype(np.int32)

each_family = pytest.mark.parametrize("name", FAMILIES)


def model_of(folder: Path, name: str) -> Path:
    return write_tiny(folder / "tiny.gguf", MODELS[name])


def made(folder: Path, name: str, engine: str, **options: object) -> Stages:
    return Stages(model_of(folder, name), folder, {"engine": engine, **options})


def halves(all_stages: Stages) -> Chain:
    """The model in two stages."""
    cuts = all_stages.facts.legal_cuts
    return all_stages.chain((cuts[len(cuts) // 2],))


def assert_same(one: np.ndarray, other: np.ndarray) -> None:
    off = np.abs(one - other).max() / np.ptp(other)
    assert off < SAME, f"off by {off}"


def alone(chain: Chain, ids: np.ndarray) -> np.ndarray:
    """Logits behind the last of `ids`, in one prefill on an empty slot 0."""
    chain.truncate(0, 0)
    return chain.run([Row(0, 0, 0, len(ids), True)], ids)


def in_steps(chain: Chain, ids: np.ndarray, width: int) -> np.ndarray:
    """Logits behind the last of `ids`, `width` of them at a time."""
    chain.truncate(0, 0)
    parts = [ids[at : at + width] for at in range(0, len(ids), width)]
    return [chain.run([Row(0, 0, number * width, len(part), True)], part) for number, part in enumerate(parts)][-1]


@each_engine
@each_family
def test_decode_equals_prefill_in_whatever_chunks(tmp_path: Path, engine: str, name: str) -> None:
    with stages(model_of(tmp_path, name), tmp_path, {"engine": engine}) as loaded:
        chain = halves(loaded)
        for length in (1, 2, 9, 21, 40):  # longer than a chunk of 16, and than a window of 4
            wanted = alone(chain, IDS[:length])
            chain.truncate(0, 0)
            assert_same(in_steps(chain, IDS[:length], 1), wanted)
            assert_same(in_steps(chain, IDS[:length], 3), wanted)


@each_engine
@each_family
def test_interleaved_sequences_do_not_see_each_other(tmp_path: Path, engine: str, name: str) -> None:
    with stages(model_of(tmp_path, name), tmp_path, {"engine": engine}) as loaded:
        chain = halves(loaded)
        sequences = (IDS[:12], IDS[20:37])
        wanted = [alone(chain, ids) for ids in sequences]
        chain.truncate(0, 0)
        chain.truncate(1, 0)
        got: dict[int, np.ndarray] = {}
        turns = [(at, slot) for at in range(17) for slot, ids in enumerate(sequences) if at < len(ids)]
        for at, slot in turns:
            got[slot] = chain.run([Row(slot, 0, at, 1, True)], sequences[slot][at : at + 1])
        for slot in (0, 1):
            assert_same(got[slot], wanted[slot])


@each_engine
@each_family
def test_what_is_rolled_back_is_forgotten(tmp_path: Path, engine: str, name: str) -> None:
    with stages(model_of(tmp_path, name), tmp_path, {"engine": engine}) as loaded:
        chain = halves(loaded)
        for kept in (0, 3, 11):
            wanted = alone(chain, np.concatenate([IDS[:kept], IDS[30:36]]))
            alone(chain, IDS[:20])
            chain.truncate(0, kept)
            assert_same(chain.run([Row(0, 0, kept, 6, True)], IDS[30:36]), wanted)


@each_engine
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_as_many_sequences_as_heads_do_not_take_each_others_mask(tmp_path: Path, engine: str, name: str) -> None:
    """Scores may be laid out by heads: a mask of as many sequences would fit their axis without a word."""
    with stages(model_of(tmp_path, name), tmp_path, {"engine": engine, "slots": KV_HEADS}) as loaded:
        chain = halves(loaded)
        lengths = [2 + 7 * slot for slot in range(KV_HEADS)]
        wanted = [alone(chain, IDS[slot : slot + length + 1]) for slot, length in enumerate(lengths)]
        for stage in chain.stages:
            stage.batch_rows = True
        for slot, length in enumerate(lengths):
            chain.truncate(slot, 0)
            chain.run([Row(slot, 0, 0, length, False)], IDS[slot : slot + length])
        rows = [Row(slot, 0, length, 1, True) for slot, length in enumerate(lengths)]
        got = chain.run(rows, np.array([IDS[slot + length] for slot, length in enumerate(lengths)], np.int32))
    for slot in range(KV_HEADS):
        assert_same(got[slot], wanted[slot][0])


@each_engine
@pytest.mark.parametrize("together", [False, True])
@each_family
def test_rows_of_unlike_lengths_in_one_step_give_what_they_give_alone(
    tmp_path: Path, engine: str, name: str, together: bool
) -> None:
    """Prompts of several lengths beside single tokens, in slots that are no neighbours, whether batched or not."""
    lengths = {0: 3, 2: 11, 3: 1, 4: 6}
    with stages(model_of(tmp_path, name), tmp_path, {"engine": engine, "slots": 5}) as loaded:
        chain = halves(loaded)
        wanted = {slot: alone(chain, IDS[slot : slot + length + 1]) for slot, length in lengths.items()}
        longer = alone(chain, IDS[40:57])
        for stage in chain.stages:
            stage.batch_rows = together
        for slot in range(5):
            chain.truncate(slot, 0)
        for slot, length in lengths.items():
            chain.run([Row(slot, 0, 0, length, False)], IDS[slot : slot + length])
        rows = [*(Row(slot, 0, length, 1, True) for slot, length in lengths.items()), Row(1, 0, 0, 17, True)]
        tokens = np.concatenate([*(IDS[slot + length :][:1] for slot, length in lengths.items()), IDS[40:57]])
        got = chain.run(rows, tokens)
    for row, slot in zip(got[:-1], lengths, strict=True):
        assert_same(row, wanted[slot][0])
    assert_same(got[-1], longer[0])


@each_engine
def test_only_rows_that_sample_give_logits_and_a_step_may_have_none(tmp_path: Path, engine: str) -> None:
    with stages(model_of(tmp_path, "llama"), tmp_path, {"engine": engine}) as loaded:
        chain = halves(loaded)
        rows = [Row(0, 0, 0, 5, False), Row(1, 0, 0, 4, True)]
        assert chain.run(rows, IDS[:9]).shape == (1, VOCAB)
        assert chain.run([Row(0, 0, 5, 1, False)], IDS[:1]).shape == (0, VOCAB)


# One stage behind its service, as its child has it


EPOCH = Epoch(1, "00" * 16, 1)


def service_of(folder: Path, engine: str) -> tuple[StageService, StageSpec]:
    """The service with a whole model loaded."""
    loaded = made(folder, "llama", engine)
    spec = replace(loaded.spec(0, loaded.facts.n_layers), record_path=str(folder / "record.json"))
    service = StageService()
    service(LOAD, memoryview(pack(pack_fields(spec))), lambda _: None)
    return service, spec


def opened(slot: int, generation: int, most: int = 50) -> OpenSlot:
    return OpenSlot(slot, generation, f"r{slot}-{generation}", "g", most, Sampling(), ())


def frame_of(rows: Sequence[Row], tokens: np.ndarray, orders: Sequence[Order] = ()) -> bytes:
    frame = StepFrame(b"i" * 16, EPOCH, 0, tuple(rows), 0, tokens.tobytes(), encode_orders(list(orders)))
    return encode_frame(frame)


def step(service: StageService, rows: Sequence[Row], tokens: np.ndarray, *orders: Order) -> list[int]:
    """Runs a step; returns the sampled tokens."""
    answer = b"".join(service(STEP, memoryview(frame_of(rows, tokens, orders)), lambda _: None))
    return [each.token for each in sampled_tokens(memoryview(answer)[TIMES.size :])]


@each_engine
def test_a_row_of_a_former_generation_is_refused_and_harms_nobody(tmp_path: Path, engine: str) -> None:
    service, _ = service_of(tmp_path, engine)
    first = step(service, [Row(0, 1, 0, 6, True)], IDS[:6], opened(0, 1))
    step(service, [Row(0, 2, 0, 4, True)], IDS[10:14], opened(0, 2))
    with pytest.raises(Desync):
        step(service, [Row(0, 1, 6, 1, True)], IDS[6:7])
    following = step(service, [Row(0, 2, 4, 1, True)], IDS[14:15])
    assert step(service, [Row(1, 1, 0, 5, True)], IDS[10:15], opened(1, 1)) == following
    assert step(service, [Row(0, 3, 0, 6, True)], IDS[:6], opened(0, 3)) == first


@each_engine
@pytest.mark.parametrize("position", [0, 5, 7, 57])
def test_a_position_that_does_not_follow_is_refused(tmp_path: Path, engine: str, position: int) -> None:
    service, _ = service_of(tmp_path, engine)
    step(service, [Row(0, 1, 0, 6, True)], IDS[:6], opened(0, 1))
    with pytest.raises(Desync):
        step(service, [Row(0, 1, position, 1, True)], IDS[6:7])
    assert step(service, [Row(0, 1, 6, 1, True)], IDS[6:7])


@each_engine
def test_a_cancelled_sequence_is_gone_and_its_slot_is_clean(tmp_path: Path, engine: str) -> None:
    service, _ = service_of(tmp_path, engine)
    wanted = step(service, [Row(1, 1, 0, 5, True)], IDS[20:25], opened(1, 1))
    step(service, [Row(0, 1, 0, 30, True)], IDS[:30], opened(0, 1))
    step(service, [], IDS[:0], CloseSlot(0, 1), CloseSlot(1, 1))
    assert unpack(b"".join(service(FACTS, memoryview(b""), lambda _: None)), 4096, maps=True)["slots"] == 0  # type: ignore[index]
    with pytest.raises(Desync):
        step(service, [Row(0, 1, 30, 1, True)], IDS[:1])
    assert step(service, [Row(0, 2, 0, 5, True)], IDS[20:25], opened(0, 2)) == wanted


@each_engine
def test_a_roll_back_rides_in_front_of_the_row_that_follows_it(tmp_path: Path, engine: str) -> None:
    service, _ = service_of(tmp_path, engine)
    wanted = step(service, [Row(1, 1, 0, 7, True)], np.concatenate([IDS[:4], IDS[40:43]]), opened(1, 1))
    step(service, [Row(0, 1, 0, 9, True)], IDS[:9], opened(0, 1))
    assert step(service, [Row(0, 1, 4, 3, True)], IDS[40:43], TruncateSlot(0, 1, 4)) == wanted


@each_engine
def test_a_context_that_is_full_takes_no_more(tmp_path: Path, engine: str) -> None:
    service, spec = service_of(tmp_path, engine)
    full = np.resize(IDS, spec.context)
    step(service, [Row(0, 1, 0, spec.context, True)], full, opened(0, 1))
    with pytest.raises(Desync, match="beyond its context"):
        step(service, [Row(0, 1, spec.context, 1, True)], IDS[:1])


@each_engine
async def test_memory_is_given_back_when_a_stage_is_dropped(tmp_path: Path, engine: str) -> None:
    """All of it: the stage lives in a process of its own, which ends."""
    loaded = made(tmp_path, "llama", engine)
    spec = loaded.spec(0, loaded.facts.n_layers)
    for _ in range(2):
        host = await StageHost.start(spec, lambda _: None, lambda _: None)
        child = psutil.Process(host.pid)
        answer = await host.run(frame_of([Row(0, 1, 0, 5, True)], IDS[:5], [opened(0, 1)]))
        assert len(sampled_tokens(split_answer(answer)[1])) == 1
        await host.stop()
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@each_engine
def test_a_hidden_state_of_another_width_never_reaches_the_engine(tmp_path: Path, engine: str) -> None:
    service, _ = service_of(tmp_path, engine)
    wrong = StepFrame(
        b"i" * 16, EPOCH, 0, (Row(0, 1, 0, 1, True),), WIDTH, bytes(4 * WIDTH), encode_orders([opened(0, 1)])
    )
    with pytest.raises(BadFrame):
        service(STEP, memoryview(encode_frame(wrong)), lambda _: None)
    assert step(service, [Row(0, 2, 0, 3, True)], IDS[:3], opened(0, 2))


@each_engine
def test_options_that_an_engine_has_not_are_refused_with_a_sentence(tmp_path: Path, engine: str) -> None:
    spec = made(tmp_path, "llama", engine).spec(0, 4)
    for changed in ({"cache_type_k": "q3_9"}, {"flash_attention": "perhaps"}):
        with pytest.raises(UnsupportedModel, match="Choose one of"):
            StageService()(LOAD, memoryview(pack(pack_fields(replace(spec, **changed)))), lambda _: None)
    if engine == MLX:
        with pytest.raises(UnsupportedModel, match=r"MLX stages cannot keep their KV cache as q8_0"):
            StageService()(LOAD, memoryview(pack(pack_fields(replace(spec, cache_type_k="q8_0")))), lambda _: None)
