"""What a node tells of itself, and the limits of each list and word in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from peerinfer.net.frames import Epoch

NAME_MAX_BYTES: Final = 128
"""A peer's name for a node, device, engine or model: 64 characters of two bytes, or 128 plain ones."""
WORD_MAX_BYTES: Final = 64
"""An id, digest, version or state word."""
DEVICES_MAX: Final = 16
ENGINES_MAX: Final = 8
UNABLE_MAX: Final = 64
MODELS_MAX: Final = 256
"""Model files told to peers; a larger library still serves locally, and whatever overflows the payload is left out."""
STAGES_MAX: Final = 64
RANGES_MAX: Final = 64
"""Ranges of tensors of one model on one node: in a file the tensors of a layer stand together."""
CUTS_MAX: Final = 1024
"""Legal cuts of one model: more layers than any model has."""
LINKS_MAX: Final = 64
"""As many as a node has links."""
SPEEDS_MAX: Final = 32
"""Kinds of model (architecture and quantisation) whose speed one node tells: those that it ran last."""
TROUBLES_MAX: Final = 16
"""Probes that cannot tell, each with its reason."""
NUMBER_MAX: Final = 2**63 - 1
SIZE_STEP: Final = 4
"""Of the bytes of a layer, from one `size_class` to the next."""


@dataclass(frozen=True, slots=True)
class Device:
    """Something that computes: the processor, or a GPU with its own memory."""

    kind: str
    """`cpu`, `cuda`, `metal`, `rocm` or `intel`."""
    name: str
    memory_bytes: int = 0
    """Its own memory; 0 if it uses the machine's."""
    memory_free_bytes: int = 0
    cores: int = 0
    """Cores that may be used; 0 for a GPU."""
    utilisation: float | None = None
    """Share of its time that it was at work, 0 … 1; None, as below, where the machine does not say."""
    temperature_c: float | None = None
    power_w: float | None = None
    clock_mhz: float | None = None
    throttled: str = ""
    """Why it runs slower than it could, in words; empty if it does not, or does not say."""
    capability: str = ""
    """What it can compute: `8.9` (CUDA compute capability), a chip's generation."""
    driver: str = ""


@dataclass(frozen=True, slots=True)
class HeldModel:
    """A model file on a node, with the numbers that placement needs (so a leader without the file can plan)."""

    name: str
    digest: str
    size_bytes: int
    layers: int
    layer_bytes: int
    """Weights of the heaviest layer."""
    embedding_bytes: int
    head_bytes: int
    kv_bytes: int
    """KV cache of one token in one layer."""
    context_length: int
    """Tokens the model was trained for; 0 if it does not say."""
    legal_cuts: tuple[int, ...]
    """Layers at which a stage may begin, besides 0; empty if the model must run whole."""
    tensors: int = 0
    """Number of its tensors; 0 where that is not told, and all are meant to be here."""
    held: tuple[tuple[int, int], ...] = ()
    """Half-open ranges of the numbers of those that are here: a node that fetched a stage has some of them."""
    architecture: str = ""
    quantisation: str = ""
    """Such as `Q4_K_M`; with the architecture, what a measured speed holds for."""
    width: int = 0
    """Numbers in the hidden state of one token; 0 where that is not told."""
    mlx_layer_bytes: int = 0
    """What its heaviest layer takes in MLX; 0 if MLX cannot run it, or that is not told."""
    mlx_head_bytes: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the node has all of its weights."""
        return not self.tensors or self.held == ((0, self.tensors),)


@dataclass(frozen=True, slots=True)
class HeldStage:
    """A stage that a node holds or loads."""

    instance: str
    epoch: Epoch
    stage: int
    state: str
    """`loading`, `ready` or `failed`."""
    progress: float = 0.0
    """Share of the loading that is done, 0 … 1."""
    ms_per_token: float = 0.0
    """Measured time of a decode step in this stage; 0 before the first."""
    hop_in_ms: float = 0.0
    """Measured time from the former stage; 0 before the first."""
    tokens: int = 0
    """Tokens computed so far."""
    wait_ms: float = 0.0
    """Measured time in this stage, per step, that is neither the engine nor the wire: behind other steps, pipe, child,
    sampling; 0 before the first."""


@dataclass(frozen=True, slots=True)
class LinkFigure:
    """What a node measured of its link to `peer`, over the real TLS path."""

    peer: str
    rtt_us: float
    """Round trip of a small message: a high percentile of the last ones, not their mean."""
    bandwidth_bytes_per_s: float = 0.0
    """To the peer: what was nearly always reached; 0 before the first probe."""
    is_stale: bool = False
    """Whether it is older than a few rounds of probes."""


@dataclass(frozen=True, slots=True)
class EngineSpeed:
    """How fast an engine on this node runs models of one kind: what a stage of n layers takes for one token is
    `stage_us + n · (layer_bytes / bytes_per_s + overhead_us)`, and the head, as bytes, on top (mechanism: roofline with
    a launch overhead)."""

    engine: str
    device: str
    """Kind of the device, as `Device.kind`."""
    architecture: str
    quantisation: str
    bytes_per_s: float
    """Weights read per second in decode: efficiency times memory bandwidth."""
    overhead_us: float
    """For each layer, whatever its size."""
    stage_us: float = 0.0
    """For each step of a stage: pipe, child process, sampling."""
    prefill_bytes_per_s: float = 0.0
    """Weights times prompt tokens per second; 0 where it was not measured."""
    samples: int = 0
    """Measurements behind it; 0 for a guess by the device's name."""
    size: int = 0
    """Of the layers behind it, as `size_class` has it."""


def size_class(device: str, layer_bytes: int) -> int:
    """For which layers a figure holds; `layer_bytes` is the model's heaviest. A processor's figures hold for all: 0.

    A kernel of a GPU takes a fixed time, in which the reading of light layers hides: an H200 read a model of 135M at
    78 GB/s, and one of 3.7B at 1,407 GB/s. So layers that differ by more than a factor of four are measured apart.
    """
    return 0 if device == "cpu" or layer_bytes <= 0 else 1 + round(math.log(layer_bytes, SIZE_STEP))


@dataclass(frozen=True, slots=True)
class OwnerPolicy:
    """What the owner of a machine allows, as `peerinfer config` sets it."""

    keep_light: bool = False
    """At most a quarter of the memory."""
    never_on_battery: bool = False
    """No layers while the machine runs on its battery."""
    memory_limit_bytes: int = 0
    """For all stages together; 0 sets no limit."""
    exclude: bool = False
    """No layers at all; it still asks, and answers its own people."""


FREE_POLICY: Final = OwnerPolicy()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a node tells of itself. No prompt, answer or user name ever stands here."""

    name: str
    version: str
    memory_bytes: int
    memory_free_bytes: int
    devices: tuple[Device, ...] = ()
    on_battery: bool | None = None
    """None where the machine does not say."""
    engines: tuple[str, ...] = ()
    models: tuple[HeldModel, ...] = ()
    stages: tuple[HeldStage, ...] = ()
    disk_free_bytes: int | None = None
    """Room for what must be fetched; None if it is not known."""
    battery_percent: float | None = None
    lid_closed: bool | None = None
    user_active: bool | None = None
    """Whether somebody used its keyboard or mouse in the last minutes."""
    thermal: str = ""
    """Pressure by heat: `nominal`, `fair`, `serious` or `critical`; empty where the machine does not say."""
    swap_used_bytes: int | None = None
    troubles: tuple[tuple[str, str], ...] = ()
    """(probe, reason) for each that cannot tell what it should."""
    policy: OwnerPolicy = FREE_POLICY
    links: tuple[LinkFigure, ...] = ()
    speeds: tuple[EngineSpeed, ...] = ()
    accelerators: tuple[str, ...] = ()
    """Kinds of devices, besides the processor, that the engines here compute with, the one to fill first first."""
    unable: tuple[tuple[str, str], ...] = ()
    """(engine, architecture) of models that an engine can run elsewhere, but not as it is installed here."""


def clean(text: str, max_bytes: int = NAME_MAX_BYTES) -> str:
    """`text` without control characters, cut to `max_bytes` of UTF-8."""
    plain = text if text.isprintable() else "".join(letter for letter in text if letter.isprintable())
    return plain.encode("utf-8", "ignore")[:max_bytes].decode("utf-8", "ignore")
