"""Guesses by the names of devices: whole words, each name its own figure, and never more than its maker's."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from peerinfer.control.priors import (
    BANDWIDTHS,
    CORE_BYTES_PER_S,
    DEFAULTS,
    EFFICIENCY,
    GB,
    MOBILE,
    PROCESSORS,
    SHARED_GB_PER_S,
    prior,
    published_gb_per_s,
)
from peerinfer.gossip.snapshot import Device

NAMES = st.sampled_from(sorted(BANDWIDTHS))
NOISE = st.lists(st.sampled_from(["NVIDIA", "(R)", "AMD", "Intel", "GeForce", "GPU", "Graphics", "Design"]))
CARD_BYTES = 8 * 10**9
FASTER_IN_LAPTOPS = {"rtx 5050 laptop"}
"""It has GDDR7, the desktop's card GDDR6."""


def card(name: str, kind: str = "cuda", memory_bytes: int = CARD_BYTES) -> Device:
    return Device(kind, name, memory_bytes, memory_bytes)


@pytest.mark.parametrize(
    ("told", "gb_per_s"),
    [
        ("NVIDIA GeForce RTX 3060", 360),
        ("NVIDIA GeForce RTX 3060 Ti", 448),
        ("NVIDIA GeForce RTX 3050 6GB Laptop GPU", 168),
        ("NVIDIA GeForce RTX 4070 SUPER", 504),
        ("NVIDIA GeForce RTX 4090 D", 1008),
        ("NVIDIA GeForce RTX 2080 Super with Max-Q Design", 352),
        ("NVIDIA GeForce GTX 1660 Ti with Max-Q Design", 288),
        ("NVIDIA GeForce GTX 1060 6GB", 192),
        ("NVIDIA RTX 6000 Ada Generation", 960),
        ("NVIDIA RTX 4000 SFF Ada Generation", 280),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 1597),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 1792),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 1792),
        ("NVIDIA RTX PRO 6000 Blackwell Generation Laptop GPU", 0),
        ("Quadro RTX 6000", 672),
        ("NVIDIA A100 80GB PCIe", 1935),
        ("NVIDIA A100-SXM4-80GB", 2039),
        ("NVIDIA A100-SXM4-40GB", 1555),
        ("NVIDIA A100-SXM4-40GB MIG 2g.10gb", 1555 / 4),
        ("NVIDIA H100 PCIe", 2000),
        ("NVIDIA H100 NVL", 3900),
        ("NVIDIA GB10", 273),
        ("Tesla P100-PCIE-12GB", 549),
        ("Tesla T4", 320),
        ("Apple M3 Pro", 150),
        ("Apple M1 Ultra", 800),
        ("Apple M6", 0),
        ("AMD Radeon RX 7900 XT/7900 XTX/7900 GRE", 576),
        ("AMD Radeon RX 6800M", 0),
        ("Intel graphics 0xe20b", 456),
    ],
)
def test_a_name_as_drivers_tell_it_has_the_figure_of_its_maker(told: str, gb_per_s: float) -> None:
    assert published_gb_per_s(told) == gb_per_s


NOISY = st.tuples(NAMES, NOISE).flatmap(
    lambda told: st.tuples(st.just(told[0]), st.permutations([*told[0].split(), *told[1]]))
)
"""A name of the table, and its words among those that makers add, in any order."""


@given(NOISY)
def test_a_name_means_itself_among_words_of_makers_and_in_any_order(noisy: tuple[str, list[str]]) -> None:
    name, words = noisy
    assert published_gb_per_s(" ".join(words).upper()) == BANDWIDTHS[name]


@given(NAMES, st.text(st.characters(categories=["Ll", "Nd"], max_codepoint=127), min_size=1, max_size=3))
def test_part_of_a_word_means_nothing(name: str, more: str) -> None:
    """Every word goes on: whatever it is then, it is not this device."""
    longer = " ".join(f"{word}{more}" for word in name.split())
    assume(longer not in BANDWIDTHS)
    found = published_gb_per_s(longer)
    assert found == 0 or set(longer.split()) & {word for entry in BANDWIDTHS for word in entry.split()}


@given(NAMES, st.sampled_from(sorted(MOBILE)))
def test_a_laptops_gpu_and_its_desktop_namesake_never_stand_for_each_other(name: str, word: str) -> None:
    assume(not MOBILE & set(name.split()))
    found = published_gb_per_s(f"{name} {word}")
    own = [BANDWIDTHS[entry] for entry in BANDWIDTHS if MOBILE & set(entry.split())]
    assert found == 0 or found in own


@pytest.mark.parametrize("parts", range(1, 8))
def test_an_instance_of_a_gpu_has_its_share_of_the_memory_lanes(parts: int) -> None:
    assert published_gb_per_s(f"NVIDIA H100 80GB HBM3 MIG {parts}g.10gb") == pytest.approx(3350 * parts / 8)
    assert published_gb_per_s(f"NVIDIA H100 80GB HBM3 {parts}g.10gb") == 3350


def processor(name: str, cores: int = 64) -> float:
    """GB/s that decoding on it is guessed to reach."""
    return prior((Device("cpu", name, cores=cores),), "cpu").bytes_per_s / GB


@pytest.mark.parametrize(
    ("name", "gb_per_s"),
    [
        ("Apple M3 Pro", 150),
        ("AMD Ryzen AI 9 HX 370 w/ Radeon 890M", 90),
        ("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", 256),
        ("AMD EPYC 7763 64-Core Processor", 83),
        ("AMD Ryzen Threadripper PRO 5975WX", 85),
        ("Intel(R) Core(TM) Ultra 7 155H", 90),
        ("Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz", 115),
        ("Snapdragon(R) X Elite - X1E78100", 135),
        ("aarch64", 17),
        ("Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz", DEFAULTS["cpu"]),
        ("", DEFAULTS["cpu"]),
    ],
)
def test_a_processor_has_the_memory_that_its_kind_has_at_least(name: str, gb_per_s: float) -> None:
    assert processor(name) == pytest.approx(gb_per_s * EFFICIENCY["cpu"])


def test_few_cores_do_not_use_up_the_memory_of_a_large_processor() -> None:
    assert processor("AMD EPYC 7763", cores=2) == pytest.approx(2 * CORE_BYTES_PER_S / GB)
    assert processor("AMD EPYC 7763", cores=0) == processor("AMD EPYC 7763"), "not known is not none"


def test_a_gpu_that_nobody_knows_is_slow_and_one_without_a_memory_of_its_own_slower() -> None:
    own, shared = card("AMD graphics 0xffff", "rocm"), card("AMD graphics 0xffff", "rocm", memory_bytes=5 * 10**8)
    assert prior((own,), "rocm").bytes_per_s == pytest.approx(DEFAULTS["rocm"] * GB * EFFICIENCY["rocm"])
    assert prior((shared,), "rocm").bytes_per_s == pytest.approx(SHARED_GB_PER_S * GB * EFFICIENCY["rocm"])
    assert prior((card("Apple M9", "metal", 0),), "metal").bytes_per_s == pytest.approx(68e9 * EFFICIENCY["metal"])
    known = prior((card("AMD graphics 0x1681", "rocm", memory_bytes=0),), "rocm")
    assert known.bytes_per_s == pytest.approx(77e9 * EFFICIENCY["rocm"]), "a name comes before what the memory says"


def test_of_several_cards_the_slowest_counts() -> None:
    fast, slow = card("NVIDIA GeForce RTX 4090"), card("NVIDIA GeForce GTX 1060 6GB")
    assert prior((fast, slow), "cuda") == prior((slow, fast), "cuda") == prior((slow,), "cuda")
    assert prior((fast, card("Radeon RX 6600", "rocm")), "cuda") == prior((fast,), "cuda")


@given(
    st.lists(
        st.builds(
            Device,
            st.sampled_from(["cpu", "cuda", "metal", "rocm", "intel", "abacus"]),
            st.text(max_size=20) | NAMES | st.sampled_from(sorted(PROCESSORS)),
            st.integers(0, 2**63 - 1),
            st.integers(0, 2**63 - 1),
            st.integers(0, 2**63 - 1),
        ),
        max_size=4,
    ),
    st.sampled_from(["cpu", "cuda", "metal", "rocm", "intel", "abacus"]),
)
def test_whatever_a_member_calls_its_devices_a_guess_is_positive_and_below_the_quickest_that_is_made(
    devices: list[Device], kind: str
) -> None:
    guess = prior(devices, kind)
    assert 0 < guess.bytes_per_s <= max(BANDWIDTHS.values()) * GB * max(EFFICIENCY.values())
    assert math.isfinite(guess.prefill_bytes_per_s)
    assert guess.prefill_bytes_per_s >= guess.bytes_per_s


def test_the_tables_hold_what_can_be() -> None:
    for table in (BANDWIDTHS, PROCESSORS):
        assert all(10 < gb_per_s <= 8000 for gb_per_s in table.values())
        assert all(entry == " ".join(entry.lower().split()) for entry in table)
    for entry, gb_per_s in BANDWIDTHS.items():
        desktop = BANDWIDTHS.get(" ".join(word for word in entry.split() if word != "laptop"))
        if entry.endswith("laptop") and entry not in FASTER_IN_LAPTOPS:
            assert desktop is None or gb_per_s <= desktop, entry
