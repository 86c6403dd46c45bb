"""How fast a stage is meant to be: by what was measured, the nearest first, else by the device's name; bounded."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.control.priors import BANDWIDTHS, prior, published_gb_per_s
from peerinfer.control.speeds import StageNumbers, stage_numbers
from peerinfer.gossip.snapshot import NUMBER_MAX, Device, EngineSpeed, size_class

DEVICES = (Device("cpu", "A processor", cores=8), Device("cuda", "NVIDIA GeForce RTX 3060 Laptop GPU", 6_000, 5_000))

LAYER_BYTES = 10**7


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
        layer_bytes=LAYER_BYTES,
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


def test_what_a_card_does_with_layers_of_another_size_is_bounded_by_a_guess() -> None:
    guess, size = prior(DEVICES, "cuda"), size_class("cuda", LAYER_BYTES)
    told = replace(speed("llama", "Q4_1", 1e10, "cuda"), size=size)
    assert guess.bytes_per_s > told.bytes_per_s
    assert guess.overhead_us > told.overhead_us
    assert (numbers(told, kind="cuda").is_measured, numbers(told, kind="cuda").layer_us) == (True, 1010.0)
    for other in (size - 1, size + 1, 0):
        found = numbers(replace(told, size=other), kind="cuda")
        assert not found.is_measured
        assert found.layer_us == pytest.approx(LAYER_BYTES / guess.bytes_per_s * 1e6 + guess.overhead_us)
        assert found.stage_us == told.stage_us
    unlike = replace(told, architecture="qwen3", quantisation="Q8_0", bytes_per_s=2e10)
    assert numbers(replace(told, size=size + 1), unlike, kind="cuda").layer_us == 510.0  # the size counts most


def test_sizes_are_a_factor_of_four_apart_and_a_processor_has_one() -> None:
    assert [size_class("cuda", 4**power) for power in (0, 1, 2, 12)] == [1, 2, 3, 13]
    assert size_class("metal", 2_000_000) < size_class("metal", 9_000_000)
    assert {size_class("cpu", size) for size in (1, 10**6, 10**12)} == {size_class("cuda", 0)} == {0}


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
    said = EngineSpeed("llama.cpp", kind, "", "", rate, overhead, stage, rate, 1, layer_bytes % 40)
    for speeds in ((said,), (replace(said, size=size_class(kind, layer_bytes)),), ()):
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
