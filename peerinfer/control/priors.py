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
APPLE: Final[Mapping[str, float]] = {
    "apple m1": 68, "apple m1 pro": 200, "apple m1 max": 400, "apple m1 ultra": 800,
    "apple m2": 100, "apple m2 pro": 200, "apple m2 max": 400, "apple m2 ultra": 800,
    "apple m3": 100, "apple m3 pro": 150, "apple m3 max": 300, "apple m3 ultra": 819,
    "apple m4": 120, "apple m4 pro": 273, "apple m4 max": 410,
    "apple m5": 153, "apple m5 pro": 307, "apple m5 max": 460,
}  # fmt: skip
"""Chips whose GPU and processor share one memory."""
BANDWIDTHS: Final[Mapping[str, float]] = {
    **APPLE,
    # NVIDIA, data centre
    "b200": 8000, "gh200": 4000, "h200": 4800, "h100": 3350, "h100 pcie": 2000, "h100 nvl": 3900, "gb10": 273,
    "a100": 1555, "a100 80gb": 1935, "a100 sxm4 80gb": 2039, "a30": 933, "a40": 696, "a10": 600, "a10g": 600, "a2": 200,
    "l40s": 864, "l40": 864, "l4": 300, "tesla p100": 549, "tesla p100 16gb": 732, "tesla p40": 347, "tesla p4": 192,
    "tesla v100": 900, "tesla t4": 320,
    # NVIDIA, workstations
    "a6000": 768, "rtx a5500": 768, "rtx a5000": 768, "rtx a4500": 640, "rtx a4000": 448, "rtx a2000": 288,
    "rtx 6000 ada": 960, "rtx 5000 ada": 576, "rtx 4500 ada": 432, "rtx 4000 ada": 360, "rtx 4000 sff ada": 280,
    "rtx 2000 ada": 224, "rtx pro 6000": 1597, "rtx pro 6000 workstation": 1792, "rtx pro 6000 max q": 1792,
    "quadro rtx 8000": 672, "quadro rtx 6000": 672, "quadro rtx 5000": 448, "quadro rtx 4000": 416,
    "titan rtx": 672, "titan v": 653,
    # NVIDIA, at home
    "rtx 5090": 1792, "rtx 5090 laptop": 896, "rtx 5080": 960,
    "rtx 5080 laptop": 896, "rtx 5070 ti": 896, "rtx 5070 ti laptop": 672, "rtx 5070": 672, "rtx 5070 laptop": 384,
    "rtx 5060 ti": 448, "rtx 5060": 448, "rtx 5060 laptop": 384, "rtx 5050": 320, "rtx 5050 laptop": 384,
    "rtx 4090": 1008, "rtx 4090 laptop": 576,
    "rtx 4080": 717, "rtx 4080 super": 736, "rtx 4080 laptop": 432, "rtx 4070": 504, "rtx 4070 super": 504,
    "rtx 4070 ti": 504, "rtx 4070 ti super": 672, "rtx 4070 laptop": 256, "rtx 4060": 272, "rtx 4060 ti": 288,
    "rtx 4060 laptop": 256, "rtx 4050 laptop": 192, "rtx 3090": 936, "rtx 3090 ti": 1008, "rtx 3080": 760,
    "rtx 3080 ti": 912, "rtx 3080 laptop": 448, "rtx 3080 ti laptop": 512, "rtx 3070": 448, "rtx 3070 ti": 608,
    "rtx 3070 laptop": 448, "rtx 3070 ti laptop": 448,
    "rtx 3060": 360, "rtx 3060 ti": 448, "rtx 3060 laptop": 336, "rtx 3050": 224, "rtx 3050 laptop": 192,
    "rtx 3050 6gb": 168, "rtx 3050 6gb laptop": 168, "rtx 3050 ti laptop": 192,
    "rtx 2080 ti": 616, "rtx 2080 super": 496, "rtx 2080": 448, "rtx 2070": 448, "rtx 2070 super": 448,
    "rtx 2060": 336, "rtx 2060 super": 448, "rtx 2050": 112, "rtx 2080 max q": 384,
    "rtx 2080 super max q": 352, "rtx 2070 max q": 384, "rtx 2070 super max q": 352, "rtx 2060 max q": 264,
    "gtx 1080 ti": 484, "gtx 1080": 320, "gtx 1070": 256, "gtx 1070 ti": 256, "gtx 1060": 192, "gtx 1050 ti": 112,
    "gtx 1050": 112, "gtx 1660": 192, "gtx 1660 super": 336, "gtx 1660 ti": 288, "gtx 1660 ti max q": 288,
    "gtx 1650": 128, "gtx 1650 super": 192, "gtx 1650 ti": 192, "gtx 1650 max q": 112,
    # AMD
    "radeon rx 9070 xt": 640, "radeon rx 9070": 640, "radeon rx 9060 xt": 320, "radeon rx 9060": 288,
    "radeon rx 7900 xtx": 960, "radeon rx 7900 xt": 800, "radeon rx 7900 gre": 576, "radeon rx 7800 xt": 624,
    "radeon rx 7700 xt": 432, "radeon rx 7600": 288, "radeon rx 7600 xt": 288, "radeon rx 6950 xt": 576,
    "radeon rx 6900 xt": 512, "radeon rx 6800 xt": 512, "radeon rx 6800": 512, "radeon rx 6750 xt": 432,
    "radeon rx 6700 xt": 384, "radeon rx 6700": 320, "radeon rx 6650 xt": 280, "radeon rx 6600 xt": 256,
    "radeon rx 6600": 224, "radeon rx 5700 xt": 448, "radeon rx 5700": 448, "radeon rx 5600 xt": 288,
    "radeon vii": 1024, "radeon pro w7900": 864, "radeon pro w7800": 576, "radeon pro w6800": 512,
    "instinct mi300x": 5300, "instinct mi250x": 3277, "instinct mi210": 1638, "instinct mi100": 1229,
    "ryzen ai max": 256, "0x1586": 256, "0x7550": 432, "0x7590": 288, "0x744c": 576, "0x747e": 432, "0x7480": 256,
    "0x73bf": 512, "0x73df": 320, "0x73ff": 224, "0x731f": 288,
    # AMD, GPUs in processors, with two channels of the memory that they are published with
    "0x1636": 51, "0x1638": 51, "0x164c": 51, "0x15e7": 51, "0x1681": 77, "0x15bf": 83, "0x1900": 83, "0x150e": 90,
    # Intel
    "arc b580": 456, "arc b570": 380, "arc a770": 560, "arc a750": 512, "arc a580": 512, "arc a380": 186,
    "0xe20b": 456, "0xe20c": 380, "0x56a0": 560, "0x56a1": 512, "0x56a2": 512, "0x56a5": 186,
}  # fmt: skip
"""Of GPUs, by the words of a name, in lower case."""
PROCESSORS: Final[Mapping[str, float]] = {
    **APPLE, "ryzen ai max": 256, "ryzen ai": 90, "threadripper": 85, "epyc": 83, "core ultra": 90, "xeon gold": 115,
    "xeon platinum": 128, "snapdragon x": 135, "aarch64": 17,
}  # fmt: skip
"""Of processors: what the slowest of that name reads with all of its memory channels in use."""
MOBILE: Final = frozenset({"laptop", "q"})
"""Words of a GPU in a laptop: `RTX 3080 Ti Laptop GPU`, `RTX 2080 with Max-Q Design`."""
DEFAULTS: Final[Mapping[str, float]] = {"cpu": 25, "cuda": 190, "metal": 68, "rocm": 190, "intel": 40}
"""By kind, where the name says nothing: two channels of slow DDR4 at a fair share, a slow GPU of the table."""
SHARED_GB_PER_S: Final = 40.0
"""Of a GPU whose name says nothing and that has little memory of its own: it reads the machine's."""
OWN_MEMORY_BYTES: Final = 3e9
"""Less than a card for models has; what a firmware sets aside for the GPU in a processor is mostly less than that."""
EFFICIENCY: Final[Mapping[str, float]] = {"cpu": 0.5, "cuda": 0.6, "metal": 0.6, "rocm": 0.5, "intel": 0.4}
"""Share of the bandwidth that decoding reaches."""
CORE_BYTES_PER_S: Final = 5e9
"""One core decodes no faster than about this, whatever the memory gives: it must unpack and multiply, too."""
OVERHEADS_US: Final[Mapping[str, float]] = {"cpu": 15, "cuda": 35, "metal": 125, "rocm": 50, "intel": 80}
"""For each layer; those of NVIDIA and Metal were measured by a prototype."""
PREFILL_GAIN: Final[Mapping[str, float]] = {"cpu": 4, "cuda": 40, "metal": 12, "rocm": 25, "intel": 12}
"""Prompt tokens that are computed in the time of one in decode, at least."""
STAGE_US: Final = 700.0
"""Of a step besides its layers, as measured on two slow cores."""
SLICES: Final = 8
"""Parts that the memory of a whole GPU has when it is cut into instances (NVIDIA's guide to MIG)."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What a device is guessed to do; fields as in `gossip.snapshot.EngineSpeed`."""

    bytes_per_s: float
    overhead_us: float
    prefill_bytes_per_s: float
    stage_us: float = STAGE_US


def prior(devices: Sequence[Device], kind: str) -> Prior:
    """The guess for the devices of `kind`: a model is spread over all of them, so the slowest counts."""
    known = [device for device in devices if device.kind == kind] or [Device(kind, "")]
    rate = min(map(_bytes_per_s, known))
    gain = PREFILL_GAIN.get(kind, PREFILL_GAIN["cpu"])
    return Prior(rate, OVERHEADS_US.get(kind, OVERHEADS_US["cpu"]), rate * gain)


def published_gb_per_s(name: str, table: Mapping[str, float] = BANDWIDTHS) -> float:
    """The published bandwidth of the device with this name, or of its instance of a GPU; 0 if not in the table."""
    parts = re.findall(r"[a-z0-9]+", name.lower())
    words = set(parts)
    named = {entry: set(entry.split()) for entry in table}
    known = [entry for entry, told in named.items() if told <= words and told & MOBILE == words & MOBILE]
    if not known:
        return 0.0
    return table[max(known, key=lambda entry: (len(named[entry]), -table[entry]))] * _share(parts)


def _share(words: Sequence[str]) -> float:
    """Of a GPU that an instance of it is: `A100-SXM4-40GB MIG 2g.10gb` has two parts of eight."""
    sizes = [re.fullmatch(r"([1-7])g", word) for word in words] if "mig" in words else []
    return next((int(size[1]) / SLICES for size in sizes if size), 1.0)


def _bytes_per_s(device: Device) -> float:
    """Of weights, in decode."""
    share = EFFICIENCY.get(device.kind, EFFICIENCY["cpu"]) * GB
    if device.kind == "cpu":
        rate = (published_gb_per_s(device.name, PROCESSORS) or DEFAULTS["cpu"]) * share
        return min(rate, device.cores * CORE_BYTES_PER_S) if device.cores else rate
    published = published_gb_per_s(device.name)
    default = DEFAULTS.get(device.kind, DEFAULTS["cpu"])
    if device.kind != "metal" and device.memory_bytes < OWN_MEMORY_BYTES:
        default = min(default, SHARED_GB_PER_S)
    return (published or default) * share
