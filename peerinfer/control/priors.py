"""Guesses by the names of devices, for what was never measured. Pure.

Memory bandwidths in GB/s are the makers' published figures (NVIDIA and AMD product pages, Apple's technical
specifications, Intel ARK). How much of it decoding reaches is a guess, too, and a cautious one: the first load of a
model measures, and what was measured always comes first. A name means a device only if all of its words stand in the
device's name; of several the one with most words, and of equals the slowest. A laptop's GPU is slower than its desktop
namesake, so neither ever stands for the other. Linux tells most AMD and Intel cards by their PCI device ids alone
(libdrm's amdgpu.ids, Intel's table of graphics devices); one that several cards share has the slowest card's figure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from peerinfer.gossip.snapshot import Device

GB: Final = 1e9
BANDWIDTHS: Final[Mapping[str, float]] = {
    # NVIDIA
    "h200": 4800, "h100": 3350, "h100 pcie": 2000, "a100": 1555, "a100 80gb": 2039, "l40s": 864, "l4": 300,
    "a6000": 768, "rtx 6000 ada": 960, "rtx 5090": 1792, "rtx 5090 laptop": 896, "rtx 5080": 960,
    "rtx 5080 laptop": 896, "rtx 5070 ti": 896, "rtx 5070 ti laptop": 672, "rtx 5070": 672, "rtx 5070 laptop": 384,
    "rtx 5060 ti": 448, "rtx 5060": 448, "rtx 5060 laptop": 384, "rtx 4090": 1008, "rtx 4090 laptop": 576,
    "rtx 4080": 717, "rtx 4080 super": 736, "rtx 4080 laptop": 432, "rtx 4070": 504, "rtx 4070 ti": 504,
    "rtx 4070 ti super": 672, "rtx 4070 laptop": 256, "rtx 4060": 272, "rtx 4060 ti": 288,
    "rtx 4060 laptop": 256, "rtx 4050 laptop": 192, "rtx 3090": 936, "rtx 3090 ti": 1008, "rtx 3080": 760,
    "rtx 3080 ti": 912, "rtx 3080 laptop": 448, "rtx 3080 ti laptop": 512, "rtx 3070": 448, "rtx 3070 ti": 608,
    "rtx 3070 laptop": 448, "rtx 3070 ti laptop": 448,
    "rtx 3060": 360, "rtx 3060 ti": 448, "rtx 3060 laptop": 336, "rtx 3050": 224, "rtx 3050 laptop": 192,
    "rtx 2080 ti": 616, "rtx 2080": 448, "rtx 2070": 448, "rtx 2060": 336, "rtx 2080 max q": 384,
    "rtx 2070 max q": 384, "rtx 2060 max q": 264, "gtx 1080 ti": 484,
    "gtx 1080": 320, "gtx 1070": 256, "gtx 1660": 192, "tesla p40": 347, "tesla v100": 900, "tesla t4": 320,
    # Apple
    "apple m1": 68, "apple m1 pro": 200, "apple m1 max": 400, "apple m1 ultra": 800,
    "apple m2": 100, "apple m2 pro": 200, "apple m2 max": 400, "apple m2 ultra": 800,
    "apple m3": 100, "apple m3 pro": 150, "apple m3 max": 300, "apple m3 ultra": 819,
    "apple m4": 120, "apple m4 pro": 273, "apple m4 max": 410, "apple m5": 153,
    # AMD
    "radeon rx 7900 xtx": 960, "radeon rx 7900 xt": 800, "radeon rx 7800 xt": 624, "radeon rx 7700 xt": 432,
    "radeon rx 7600": 288, "radeon rx 6900 xt": 512, "radeon rx 6800 xt": 512, "radeon rx 6700 xt": 384,
    "radeon rx 6600": 224, "radeon rx 9070 xt": 640, "instinct mi300x": 5300, "instinct mi250x": 3277,
    "ryzen ai max": 256, "0x1586": 256, "0x7550": 432, "0x744c": 576, "0x747e": 432, "0x73bf": 512, "0x73df": 320,
    "0x73ff": 224,
    # Intel
    "arc a770": 560, "arc a750": 512, "arc b580": 456, "arc b570": 380, "0x56a0": 560, "0x56a1": 512,
    "0x56a5": 186, "0xe20b": 380, "0xe20c": 380,
}  # fmt: skip
"""By the words of a name, in lower case."""
MOBILE: Final = frozenset({"laptop", "q"})
"""Words of a GPU in a laptop: `RTX 3080 Ti Laptop GPU`, `RTX 2080 with Max-Q Design`."""
DEFAULTS: Final[Mapping[str, float]] = {"cpu": 25, "cuda": 190, "metal": 68, "rocm": 190, "intel": 40}
"""By kind, where the name says nothing: two channels of slow DDR4 at a fair share, the slowest GPU of the table."""
EFFICIENCY: Final[Mapping[str, float]] = {"cpu": 0.5, "cuda": 0.6, "metal": 0.6, "rocm": 0.5, "intel": 0.4}
"""Share of the bandwidth that decoding reaches."""
OVERHEADS_US: Final[Mapping[str, float]] = {"cpu": 15, "cuda": 35, "metal": 125, "rocm": 50, "intel": 80}
"""For each layer; those of NVIDIA and Metal were measured by a prototype."""
PREFILL_GAIN: Final[Mapping[str, float]] = {"cpu": 4, "cuda": 40, "metal": 12, "rocm": 25, "intel": 12}
"""Prompt tokens that are computed in the time of one in decode, at least."""
STAGE_US: Final = 700.0
"""Of a step besides its layers, as measured on two slow cores."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What a device is guessed to do; fields as in `gossip.snapshot.EngineSpeed`."""

    bytes_per_s: float
    overhead_us: float
    prefill_bytes_per_s: float
    stage_us: float = STAGE_US


def prior(devices: Sequence[Device], kind: str) -> Prior:
    """The guess for the first device of `kind`."""
    name = next((device.name for device in devices if device.kind == kind), "")
    bandwidth = (published_gb_per_s(name) if kind != "cpu" else 0.0) or DEFAULTS.get(kind, DEFAULTS["cpu"])
    rate = bandwidth * GB * EFFICIENCY.get(kind, EFFICIENCY["cpu"])
    gain = PREFILL_GAIN.get(kind, PREFILL_GAIN["cpu"])
    return Prior(rate, OVERHEADS_US.get(kind, OVERHEADS_US["cpu"]), rate * gain)


def published_gb_per_s(name: str) -> float:
    """The published bandwidth of the device with this name; 0 if it is not in the table."""
    words = set(re.findall(r"[a-z0-9]+", name.lower()))
    named = {entry: set(entry.split()) for entry in BANDWIDTHS}
    known = [entry for entry, told in named.items() if told <= words and told & MOBILE == words & MOBILE]
    return BANDWIDTHS[max(known, key=lambda entry: (len(named[entry]), -BANDWIDTHS[entry]))] if known else 0.0
