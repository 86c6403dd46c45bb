"""How fast a stage is meant to be: by what was measured, the nearest first, else by the device's name; bounded."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.control.priors import BANDWIDTHS, prior, published_gb_per_s
from peerinfer.control.speeds import StageNumbers, stage_numbers
from peerinfer.engine.kinds import OUTGROWN
from peerinfer.gossip.snapshot import NUMBER_MAX, Device, EngineSpeed

DEVICES = (Device("cpu", "A processor", cores=8), Device("cuda", "NVIDIA GeForce RTX 3060 Laptop GPU", 6_000, 5_000))


def speed(architecture: str, quantisation: str, rate: float, device: str = "cpu") -> EngineSpeed:
    return EngineSpeed("llama.cpp", device, architecture, quantisation, rate, 10.0, 100.0, rate * 8, 1)


def numbers(*speeds: EngineSpeed, kind: str = "cpu") -> StageNumbers:
    return stage_numbers(
        speeds,
        DEVICES,
        engine="llama.cpp",
        kind=kind,
        architecture="llama",
        quantisation="Q4_1",
        layer_bytes=10**7,
        head_bytes=10**8,
    )


def test_the_nearest_measurement_counts() -> None:
    exact, alike, other = speed("llama", "Q4_1", 1e10), speed("qwen3", "Q4_1", 2e10), speed("llama", "Q8_0", 4e10)
    gpu = speed("llama", "Q4_1", 1e12, "cuda")
    assert numbers(other, alike, gpu, exact) == StageNumbers(1010.0, 10_000.0, 125.0, 100.0, True)
    assert numbers(other, alike, gpu).layer_us == 510.0
    assert numbers(other, gpu).layer_us == 260.0
    guessed = numbers(gpu)
    assert not guessed.is_measured
    assert guessed.layer_us > 500


def test_from_much_lighter_layers_only_the_overhead_is_believed() -> None:
    told = replace(speed("llama", "Q4_1", 1e10, "cuda"), layer_bytes=10**7 // OUTGROWN)
    assert numbers(told, kind="cuda").is_measured
    lighter = replace(told, layer_bytes=told.layer_bytes - 1)
    rate = prior(DEVICES, "cuda").bytes_per_s
    assert rate > 1e10
    found = numbers(lighter, kind="cuda")
    assert not found.is_measured
    assert (found.layer_us, found.stage_us) == (pytest.approx(1e13 / rate + 10.0), 100.0)
    quick = numbers(replace(lighter, bytes_per_s=1e13), kind="cuda")
    assert quick.layer_us == pytest.approx(11.0)  # what was seen to be quicker than a guess is


def test_a_laptops_gpu_is_not_its_desktop_namesake() -> None:
    assert published_gb_per_s("NVIDIA GeForce RTX 3060 Laptop GPU") == 336
    assert published_gb_per_s("NVIDIA GeForce RTX 3060") == 360
    assert published_gb_per_s("NVIDIA GeForce RTX 4070 Ti SUPER") == 672
    assert published_gb_per_s("NVIDIA H100 80GB HBM3") == 3350
    assert published_gb_per_s("Apple M3") == 100
    assert published_gb_per_s("Apple M3 Pro") == 150
    assert published_gb_per_s("Something new") == 0
    assert prior(DEVICES, "cuda").bytes_per_s < prior((Device("cuda", "NVIDIA GeForce RTX 3090"),), "cuda").bytes_per_s


@pytest.mark.parametrize("name", [entry for entry in BANDWIDTHS if "laptop" not in entry and entry.startswith("rtx")])
def test_no_laptop_is_taken_for_a_desktop_whether_its_own_figure_is_known_or_not(name: str) -> None:
    found = published_gb_per_s(f"NVIDIA GeForce {name} Laptop GPU".upper())
    own = BANDWIDTHS.get(f"{name} laptop")
    assert found == own or (own is None and found < BANDWIDTHS[name])


@pytest.mark.parametrize(
    ("name", "gb_per_s"),
    [
        ("NVIDIA GeForce RTX 3080 Ti Laptop GPU", 512),
        ("NVIDIA GeForce RTX 2080 with Max-Q Design", 384),
        ("NVIDIA GeForce RTX 3090 Laptop GPU", 0),  # there is none: rather no figure than a desktop's
        ("NVIDIA A100-SXM4-80GB", 2039),
        ("AMD Radeon RX 7900 XT/7900 XTX/7900 GRE", 576),
        ("AMD graphics 0x744c", 576),
        ("Intel graphics 0x56a1", 512),
        ("AMD graphics 0x744", 0),
        ("NVIDIA GeForce RTX 30600", 0),
        ("", 0),
    ],
)
def test_words_are_whole_and_of_equals_the_slowest_counts(name: str, gb_per_s: float) -> None:
    assert published_gb_per_s(name) == gb_per_s


@pytest.mark.parametrize("name", BANDWIDTHS)
def test_every_name_means_itself(name: str) -> None:
    assert published_gb_per_s(name.upper()) == BANDWIDTHS[name]
    assert published_gb_per_s(name.replace(" ", "")) == 0 or " " not in name


@given(
    st.tuples(*[st.floats(0, 1.7e308)] * 3),
    st.tuples(*[st.integers(0, NUMBER_MAX)] * 2),
    st.sampled_from(["cpu", "cuda", "metal", "rocm", "intel", "abacus"]),
)
def test_whatever_a_member_says_the_numbers_are_finite_and_positive(
    figures: tuple[float, ...], sizes: tuple[int, ...], kind: str
) -> None:
    (rate, overhead, stage), (layer_bytes, head_bytes) = figures, sizes
    said = EngineSpeed("llama.cpp", kind, "", "", rate, overhead, stage, rate, 1)
    for speeds in ((said,), ()):
        found = stage_numbers(
            speeds,
            DEVICES,
            engine="llama.cpp",
            kind=kind,
            architecture="llama",
            quantisation="Q4_1",
            layer_bytes=layer_bytes,
            head_bytes=head_bytes,
        )
        told = (found.layer_us, found.head_us, found.prefill_layer_us, found.stage_us)
        assert all(math.isfinite(figure) and figure >= 0 for figure in told)
