"""A trunk's process holds its shard, its KV cache and little else, at a 512-token prefill of the real model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from peerinfer.engine.base import OpenSlot, Sampling, StageSpec
from peerinfer.engine.host import StageHost
from peerinfer.engine.orders import encode_orders
from peerinfer.models.facts import model_facts
from peerinfer.models.gguf import read_header
from peerinfer.models.shards import stage_key
from peerinfer.net.frames import Epoch, Row, StepFrame, encode_frame
from tests.bundled import bundled_model
from tests.cutting import cut

BESIDES_MAX_BYTES = 150_000_000
LAYERS = 10
PROMPT = 512

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("first_layer", [0, 10])
async def test_a_trunk_holds_its_shard_its_cache_and_little_else(
    tmp_path: Path, first_layer: int, capsys: pytest.CaptureFixture[str]
) -> None:
    model = bundled_model()
    facts = model_facts(read_header(model))
    key = stage_key("0" * 64, first_layer, first_layer + LAYERS, facts.n_layers)
    shard = cut(model, key, tmp_path)
    first = first_layer == 0
    shard_bytes = shard.stat().st_size
    spec = StageSpec(
        kind=key.kind,
        first=first,
        shard_path=str(shard),
        model_path=str(model),
        layers=LAYERS,
        n_embd=facts.n_embd,
        n_vocab=facts.n_vocab,
        context=4096,
        slots=4,
        threads=1,
    )
    host = await StageHost.start(spec, lambda _: None, lambda _: None)
    try:
        payload = np.arange(PROMPT, dtype=np.int32) if first else np.ones((PROMPT, spec.n_embd), np.float32)
        frame = StepFrame(
            instance=b"i" * 16,
            epoch=Epoch(1, "00" * 16, 1),
            step=0,
            rows=(Row(0, 1, 0, PROMPT, True),),
            width=0 if first else spec.n_embd,
            payload=payload.tobytes(),
            orders=encode_orders([OpenSlot(0, 1, "r", "g", 5, Sampling(), ())]),
        )
        await host.run(encode_frame(frame))
        held = await host.measure()
    finally:
        await host.stop()
    besides = held["rss_bytes"] - held["kv_bytes"] - shard_bytes
    with capsys.disabled():
        parts = [held["rss_bytes"], shard_bytes, held["kv_bytes"], besides]
        print("\nRSS {:.0f} MB = shard {:.0f} + KV {:.0f} + {:.0f} MB".format(*(part / 1e6 for part in parts)))  # noqa: T201
    assert held["slots"] == 1
    assert besides <= BESIDES_MAX_BYTES
