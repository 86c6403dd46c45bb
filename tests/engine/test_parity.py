"""The parity check at load: honest stages pass, always; broken ones never, whatever was recorded before."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from peerinfer.engine.base import Hidden, Logits, StageSpec
from peerinfer.engine.calls import LOAD
from peerinfer.engine.kinds import MLX
from peerinfer.engine.worker import StageService
from peerinfer.errors import UnsupportedModel
from peerinfer.models.facts import model_facts
from peerinfer.models.gguf import read_header
from peerinfer.net.messages import pack_fields
from peerinfer.packing import pack, unpack
from tests.bundled import bundled_model
from tests.engine.chains import Stages
from tests.engine.engines import HAS_MLX
from tests.tiny_architectures import MODELS
from tests.tiny_parts import write_tiny

if HAS_MLX:
    from peerinfer.engine import mlx as mlx_stage
    from peerinfer.engine import mlx_families, parity
    from peerinfer.engine.mlx_families import norm as honest_norm
    from peerinfer.engine.mlx_families import real as honest_real
else:
    pytest.skip("MLX is not installed here", allow_module_level=True)

FAMILIES = ["llama", "qwen2", "qwen3", "gemma2", "gemma3", "gemma3 of its own period", "phi3"]
HONEST_LOADS = 50

Break = Callable[[pytest.MonkeyPatch], None]


def other_pairs(patch: pytest.MonkeyPatch) -> None:
    """Q and K rows are taken as if they stood in the other order: llama's permutation left out."""
    for name, rules in mlx_families.MLX_RULES.items():
        turned = replace(rules, pairs_are_neighbours=not rules.pairs_are_neighbours)
        patch.setitem(mlx_families.MLX_RULES, name, turned)  # type: ignore[arg-type]


def another_base(patch: pytest.MonkeyPatch) -> None:
    """Positions turn ten times as slowly."""

    def real(header: object, key: str, default: float | None = None) -> float:
        value = honest_real(header, key, default)  # type: ignore[arg-type]
        return value / 10 if key.startswith("rope.freq_base") else value

    patch.setattr(mlx_families, "real", real)


def one_norm_swapped(patch: pytest.MonkeyPatch) -> None:
    """One layer has its two norms in each other's place."""
    put, seen = mlx_stage.put, list[int]()

    def swapping(block: object, path: str, module: object) -> None:
        names = {"input_layernorm": "post_attention_layernorm", "post_attention_layernorm": "input_layernorm"}
        if not seen:
            seen.append(id(block))
        put(block, names.get(path, path) if id(block) == seen[0] else path, module)

    patch.setattr(mlx_stage, "put", swapping)


def a_norm_with_one_added(patch: pytest.MonkeyPatch) -> None:
    """Norms of a GGUF file are taken for those that gemma publishes."""
    patch.setattr(mlx_stage, "norm", lambda weight, epsilon: honest_norm(weight + 1, epsilon))


BREAKS = [other_pairs, another_base, one_norm_swapped, a_norm_with_one_added]


@dataclass
class Loaded:
    """What a load told."""

    parity: float
    recorded: bool


def load(spec: StageSpec, record: Path) -> Loaded:
    """Loads a stage in MLX as its child does."""
    wanted = replace(spec, engine=MLX, record_path=str(record))
    service = StageService()
    (answer,) = service(LOAD, memoryview(pack(pack_fields(wanted))), lambda _: None)
    facts: dict[str, int] = unpack(answer, 4096, maps=True)  # type: ignore[assignment]
    return Loaded(facts["parity_millionths"] / 1e6, bool(facts["parity_recorded"]))


def tiny(folder: Path, name: str) -> Stages:
    return Stages(write_tiny(folder / "tiny.gguf", MODELS[name]), folder)


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    return Stages(bundled_model(), tmp_path_factory.mktemp("real"), {"context": 128})


@pytest.mark.parametrize("name", FAMILIES)
def test_honest_stages_of_every_family_pass_wherever_they_are_cut(tmp_path: Path, name: str) -> None:
    made = tiny(tmp_path, name)
    cuts = (0, *made.facts.legal_cuts, made.facts.n_layers)
    ranges = [*itertools.pairwise(cuts), (0, made.facts.n_layers)]
    for first, last in ranges:
        told = load(made.spec(first, last), tmp_path / f"{first}-{last}.json")
        assert told.parity < parity.EXACT_TOLERANCE / 2, (first, last)


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("name", FAMILIES)
def test_broken_stages_of_every_family_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, broken: Break
) -> None:
    made = tiny(tmp_path, name)
    spec = made.spec(0, made.facts.n_layers)
    broken(monkeypatch)
    with pytest.raises(UnsupportedModel, match=r"mlx and llama.cpp disagree here: .* is off by .*config engines"):
        load(spec, tmp_path / "record.json")
    assert not (tmp_path / "record.json").exists()


@pytest.mark.parametrize("layers", [(0, 10), (10, 20), (20, 30), (14, 15), (29, 30), (0, 1)])
@pytest.mark.parametrize("broken", BREAKS)
def test_broken_stages_of_the_real_model_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: Stages, broken: Break, layers: tuple[int, int]
) -> None:
    spec = real.spec(*layers)
    broken(monkeypatch)
    with pytest.raises(UnsupportedModel, match="disagree here"):
        load(spec, tmp_path / "record.json")


@pytest.mark.parametrize("layers", [(0, 10), (10, 20), (29, 30)])
def test_a_stage_that_passed_is_held_to_its_own_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: Stages, layers: tuple[int, int]
) -> None:
    spec, record = real.spec(*layers), tmp_path / "kept" / "record.json"
    first = load(spec, record)
    assert not first.recorded
    assert 0 < first.parity < parity.ROUNDED_TOLERANCE
    monkeypatch.setattr(parity, "LlamaReference", None)  # nobody asks llama.cpp again
    assert load(spec, record) == Loaded(0.0, True)


@pytest.mark.parametrize("layers", [(0, 1), (10, 13)])
@pytest.mark.parametrize("broken", BREAKS)
def test_a_record_does_not_let_a_broken_stage_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: Stages, broken: Break, layers: tuple[int, int]
) -> None:
    spec, record = real.spec(*layers), tmp_path / "record.json"
    load(spec, record)
    broken(monkeypatch)
    with pytest.raises(UnsupportedModel, match="disagree here"):
        load(spec, record)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"rubbish",
        lambda _: b"[1, 2]",
        lambda _: b'{"version": 1}',
        lambda _: b"[" * 100_000,
        lambda text: text.replace(b"mlx ", b"mlx 0."),
        lambda text: json.dumps({**json.loads(text), "version": 0}).encode(),
        lambda text: json.dumps({**json.loads(text), "fingerprint": [[["x"]]]}).encode(),
        lambda text: json.dumps({**json.loads(text), "fingerprint": [[[1.0]]]}).encode(),
        lambda text: text + b" " * (5 << 20),
    ],
)
def test_a_record_that_is_none_is_made_anew(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    made, record = tiny(tmp_path, "llama"), tmp_path / "record.json"
    spec = made.spec(0, 2)
    load(spec, record)
    good = record.read_bytes()
    record.write_bytes(damage(good))
    assert not load(spec, record).recorded
    assert record.read_bytes() == good


class Recited:
    """An engine that gives numbers of our choice."""

    def __init__(self, spec: StageSpec, value: float) -> None:
        self.spec = replace(spec, engine=MLX)
        self._value = value
        self._key_width = model_facts(read_header(Path(spec.shard_path))).kv_widths[0]

    def layer(self, number: int, states: Hidden) -> tuple[Hidden, Hidden]:
        return np.full((len(states), self._key_width), self._value, np.float32), np.full_like(states, self._value)

    def logits(self, states: Hidden) -> Logits:
        return np.full((len(states), self.spec.n_vocab), self._value, np.float32)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, 1e30])
def test_numbers_that_are_none_are_no_parity(tmp_path: Path, value: float) -> None:
    made = tiny(tmp_path, "llama")
    with pytest.raises(UnsupportedModel, match="disagree here"), np.errstate(all="ignore"):
        parity.check_parity(Recited(made.spec(0, 4), value), tmp_path / "record.json", "test")


@pytest.mark.soak
def test_honest_stages_are_never_refused_over_many_loads(tmp_path: Path, real: Stages) -> None:
    """Unlike ranges of the real model, each checked against llama.cpp, in turn."""
    n_layers = model_facts(read_header(bundled_model())).n_layers
    random = np.random.default_rng(50)
    for number in range(HONEST_LOADS):
        first, last = sorted(random.choice(n_layers + 1, 2, replace=False).tolist())
        told = load(real.spec(first, last), tmp_path / f"{number}.json")
        assert told.parity < parity.ROUNDED_TOLERANCE
