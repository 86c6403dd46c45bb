"""Models that are never cut run whole, and say so where something is asked of them that they cannot do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from peerinfer.engine.base import OpenSlot, Sampling, StageSpec, TruncateSlot
from peerinfer.engine.calls import LOAD, STEP
from peerinfer.engine.orders import encode_orders
from peerinfer.engine.worker import StageService
from peerinfer.errors import Desync, EngineError, UnsupportedModel
from peerinfer.models.facts import check_cut, model_facts
from peerinfer.models.gguf import read_header
from peerinfer.net.frames import Epoch, Row, StepFrame, encode_frame
from peerinfer.net.messages import pack_fields
from peerinfer.packing import pack
from tests.engine.chains import stages, story
from tests.tiny_parts import VOCAB, WIDTH, Tiny, always, write_tiny

INNER = 2 * WIDTH
STATE = 8
RANK = 4

MAMBA = Tiny(
    "mamba",
    always(
        {
            "attn_norm.weight": (WIDTH,),
            "ssm_in.weight": (2 * INNER, WIDTH),
            "ssm_conv1d.weight": (INNER, 4),
            "ssm_conv1d.bias": (INNER,),
            "ssm_x.weight": (RANK + 2 * STATE, INNER),
            "ssm_dt.weight": (INNER, RANK),
            "ssm_dt.bias": (INNER,),
            "ssm_a": (INNER, STATE),
            "ssm_d": (INNER,),
            "ssm_out.weight": (WIDTH, INNER),
        }
    ),
    {
        "ssm.conv_kernel": 4,
        "ssm.inner_size": INNER,
        "ssm.state_size": STATE,
        "ssm.time_step_rank": RANK,
        "attention.head_count": 0,
        "attention.head_count_kv": None,
        "feed_forward_length": 0,
    },
    layers=3,
)


@pytest.fixture
def mamba(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.gguf", MAMBA)


def test_a_state_space_model_is_not_cut(mamba: Path) -> None:
    facts = model_facts(read_header(mamba))
    assert (facts.legal_cuts, facts.kv_bytes_per_token_per_layer) == ((), 0)
    with pytest.raises(UnsupportedModel, match=r"recurrent state.*Run the model whole on one node"):
        check_cut(facts, 0, 1)


def test_it_runs_whole_but_takes_nothing_back(mamba: Path, tmp_path: Path) -> None:
    with stages(mamba, tmp_path) as made:
        chain = made.chain(())
        ids = np.arange(3, 10, dtype=np.int32)
        first = chain.run([Row(0, 0, 0, 7, True)], ids)
        assert np.isfinite(first).all()
        with pytest.raises(EngineError, match="cannot be taken back"):
            chain.truncate(0, 4)
        assert (chain.run([Row(0, 0, 0, 7, True)], ids) == first).all()
        with pytest.raises(EngineError):
            story(chain)


def test_a_roll_back_that_failed_leaves_no_tenant(mamba: Path) -> None:
    spec = StageSpec(
        "whole", True, str(mamba), str(mamba), layers=3, n_embd=WIDTH, n_vocab=VOCAB, context=64, slots=1, threads=1
    )
    service = StageService()
    service(LOAD, memoryview(pack(pack_fields(spec))), lambda _: None)
    tokens = np.arange(3, 10, dtype=np.int32)

    def step(position: int, count: int, *orders: OpenSlot | TruncateSlot) -> None:
        frame = StepFrame(
            instance=b"i" * 16,
            epoch=Epoch(1, "00" * 16, 1),
            step=0,
            rows=(Row(0, 1, position, count, True),),
            width=0,
            payload=tokens[:count].tobytes(),
            orders=encode_orders(list(orders)),
        )
        service(STEP, memoryview(encode_frame(frame)), lambda _: None)

    step(0, 7, OpenSlot(0, 1, "r", "g", 5, Sampling(), ()))
    with pytest.raises(EngineError, match="cannot be taken back"):
        step(4, 1, TruncateSlot(0, 1, 4))
    with pytest.raises(Desync):
        step(4, 1)
