"""Whether an engine computes a stage as llama.cpp does: a fixed probe through every layer, when the stage is loaded.

Layer by layer, each is given what llama.cpp had before it, so that errors do not pile up and the wrong layer is named;
compared are the keys that it puts into its cache, in which positions show fully, and what it adds to the hidden states,
token by token. Once a stage has passed, a fingerprint of its own run is kept (norms and a random projection behind each
layer), and the next load is held to that, without llama.cpp.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, cast

import numpy as np
from gguf.constants import GGMLQuantizationType

from peerinfer.engine.base import Hidden, Logits, StageSpec
from peerinfer.engine.llama_reference import LlamaReference
from peerinfer.errors import HomeError, UnsupportedModel
from peerinfer.models.atomic import replacing
from peerinfer.models.gguf import GgufHeader
from peerinfer.models.mlx_rules import HALF_TYPES
from peerinfer.models.model_file import read_model

VERSION: Final = 1
"""Of probe and fingerprint; raised with any change of them."""
PROBE_TOKENS: Final = 32
"""Enough positions that a wrong rotation shows; a thirtieth of a second of prefill on a laptop."""
PROBE_SEED: Final = 20_26
PROJECTIONS: Final = 8
"""Random directions in which each token's hidden state is told."""
FINGERPRINT_STEP: Final = 4
"""Every fourth token is told: later ones look back on all others."""
ROUNDED_TOLERANCE: Final = 0.08
"""Relative, for weights of fewer than 16 bits: llama.cpp rounds what it multiplies them with to 8 bits on a processor.
Measured on SmolLM2: honest layers up to 0.032, of IQ4_NL 0.052, and keys up to 0.009; broken in any one layer, keys are
off by 0.2 or more (a wrong base), by 0.6 (the permutation), and a layer by 0.3 (a norm)."""
EXACT_TOLERANCE: Final = 0.03
"""The same for weights of 16 or 32 bits: honest up to 0.003, with BF16 up to 0.010."""
REPEAT_TOLERANCE: Final = 0.003
"""Between two runs of one engine on one machine, with errors piled up over all layers."""
TINY: Final = np.float32(1e-12)
"""Instead of zero, where a layer adds nothing."""
RECORD_MAX_BYTES: Final = 4 << 20

log = logging.getLogger(__name__)


class ProbedEngine(Protocol):
    """An engine whose layers can be run one by one."""

    spec: StageSpec

    def layer(self, number: int, states: Hidden) -> tuple[Hidden, Hidden]:
        """One layer on one sequence from position 0 on: its keys, and the hidden states behind it."""
        ...

    def logits(self, states: Hidden) -> Logits:
        """Norm and head."""
        ...


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a stage was from llama.cpp."""

    error: float
    """Of the worst layer, relative to what it adds."""
    where: str
    """That layer, or the head."""
    tolerance: float
    recorded: bool
    """Whether it was held to a record of its own instead; then `error` is the distance from that."""

    @property
    def is_held(self) -> bool:
        """Whether the stage may be served."""
        return self.error <= self.tolerance  # a number that is none is no parity


def check_parity(engine: ProbedEngine, record: Path | None, version: str) -> Parity:
    """Compares a stage that was just loaded. `record` is where its fingerprint is kept; `version` that of the engine.

    Raises `UnsupportedModel` beyond the tolerance: the stage must not be served.
    """
    probe = probe_states(engine.spec.n_embd)[: engine.spec.context]
    own = fingerprint(_own_run(engine, probe))
    kept = read_record(record, version) if record is not None else None
    if kept is not None and kept.shape == own.shape:
        distance = _distance(kept, own)
        if distance <= REPEAT_TOLERANCE:
            return Parity(distance, "", REPEAT_TOLERANCE, recorded=True)
        log.warning("A stage differs by %.4f from when it was checked; it is checked anew.", distance)
    parity = compare(engine, probe)
    if not parity.is_held:
        raise UnsupportedModel(
            f"{engine.spec.engine} and llama.cpp disagree here: {parity.where} {_off(parity.error)}, where "
            f"{parity.tolerance:.1%} is rounding. So these layers are not served by {engine.spec.engine}. "
            "Set `peerinfer config engines llama.cpp` on this machine, and load again."
        )
    if record is not None:
        write_record(record, version, own)
    return parity


def _off(error: float) -> str:
    return f"is off by {error:.0%}" if np.isfinite(error) else "computes what is no number"


def probe_states(width: int) -> Hidden:
    """The probe: standard normal numbers, the same on every machine, shape (tokens, width)."""
    # RandomState's streams are frozen for good; those of a Generator may change with numpy.
    return np.random.RandomState(PROBE_SEED).standard_normal((PROBE_TOKENS, width)).astype(np.float32)


def compare(engine: ProbedEngine, probe: Hidden) -> Parity:
    """Every layer, and the head, against llama.cpp on the same shard."""
    reference = LlamaReference(engine.spec, len(probe))
    try:
        trace = reference.trace(probe)
    finally:
        reference.close()
    errors: list[tuple[float, str]] = []
    before = probe
    for number, (wanted, behind) in enumerate(zip(trace.keys, trace.states, strict=True)):
        keys, states = engine.layer(number, before)
        errors.append((_relative(keys, wanted, np.zeros_like(wanted)), f"the keys of layer {number}"))
        errors.append((_relative(states, behind, before), f"layer {number} of the stage"))
        before = behind
    if trace.logits is not None:
        middle = trace.logits.mean(axis=1, keepdims=True)
        errors.append((_relative(engine.logits(before), trace.logits, middle), "the head"))
    error, where = max(errors, key=lambda each: np.inf if np.isnan(each[0]) else each[0])
    return Parity(float(error), where, tolerance(read_model(Path(engine.spec.shard_path))), recorded=False)


def _relative(made: Hidden, wanted: Hidden, before: Hidden) -> float:
    """Root of the mean over tokens of (distance / what was added)²."""
    off, added = _squares(made - wanted), _squares(wanted - before)
    return float(np.sqrt(np.mean(off / np.maximum(added, TINY))))


def _squares(rows: Hidden) -> Hidden:
    """The square of each row's length."""
    return np.einsum("ij,ij->i", rows, rows)


def tolerance(header: GgufHeader) -> float:
    """What is rounding for weights of these types."""
    exact = (GGMLQuantizationType.F32, *HALF_TYPES)
    return EXACT_TOLERANCE if all(tensor.type in exact for tensor in header.tensors) else ROUNDED_TOLERANCE


def _own_run(engine: ProbedEngine, probe: Hidden) -> Iterable[Hidden]:
    states = probe
    for number in range(engine.spec.layers):
        keys, states = engine.layer(number, states)
        yield keys
        yield states
    if engine.spec.kind != "trunk":
        yield engine.logits(states)


def fingerprint(states: Iterable[Hidden]) -> Hidden:
    """Of each array, (tokens, width), its norms and projections: shape (arrays, tokens told, 1 + `PROJECTIONS`)."""
    rows: list[Hidden] = []
    for each in (layer[FINGERPRINT_STEP - 1 :: FINGERPRINT_STEP] for layer in states):
        signs = _signs(each.shape[1])
        norms = np.linalg.norm(each, axis=1, keepdims=True)
        rows.append(np.concatenate([norms, each @ signs], axis=1))
    return np.stack(rows).astype(np.float32)


def _signs(width: int) -> Hidden:
    coins = np.random.RandomState(PROBE_SEED).randint(0, 2, (width, PROJECTIONS))
    return np.where(coins == 1, np.float32(1), np.float32(-1))


def _distance(kept: Hidden, own: Hidden) -> float:
    """The worst array's, relative to its norms: a projection is about as long as what it projects."""
    off = np.sqrt(np.mean((kept - own) ** 2, axis=(1, 2)))
    return float(np.max(off / np.maximum(np.sqrt(np.mean(kept[:, :, 0] ** 2, axis=1)), TINY)))


def read_record(path: Path, version: str) -> Hidden | None:
    """The fingerprint kept for this version of the engine; None if there is none that can be used."""
    try:
        if path.stat().st_size > RECORD_MAX_BYTES:
            return None
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            return None
        told = cast(dict[str, Any], raw)
        if (told.get("version"), told.get("engine")) != (VERSION, version):
            return None
        kept = np.array(told.get("fingerprint"), np.float32)
    except (OSError, ValueError, TypeError, OverflowError, RecursionError):
        return None
    return kept if kept.ndim == 3 and bool(np.isfinite(kept).all()) else None


def write_record(path: Path, version: str, own: Hidden) -> None:
    """Keeps a fingerprint; that it cannot be written does no harm, for the next load checks anew."""
    body = {"version": VERSION, "engine": version, "fingerprint": own.round(6).tolist()}
    try:
        with replacing(path) as partial:
            partial.write_text(json.dumps(body), encoding="utf-8")
    except (OSError, HomeError) as error:
        log.warning("The fingerprint of a stage could not be kept: %s", error)
