"""Which file of a repository is meant: quantisations, parts, what is no model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.errors import BadRequest, UnknownModel
from peerinfer.models.pull.choice import (
    PREFERRED,
    RepoFile,
    choose,
    model_name,
    parts_of,
    quant_of,
    stem_of,
    variants,
)
from peerinfer.models.pull.reference import HubReference


def repo(*paths: str) -> list[RepoFile]:
    return [RepoFile(path, 10, "0" * 64) for path in paths]


def chosen(files: list[RepoFile], quant: str = "", file: str = "") -> list[str]:
    return [found.path for found in choose(HubReference("o", "r", quant, file), files).files]


@pytest.mark.parametrize(
    ("stem", "quant"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M", "Q4_K_M"),
        ("SmolLM3-Q4_K_M", "Q4_K_M"),
        ("model.q8_0", "Q8_0"),
        ("gpt-oss-20b-mxfp4", "MXFP4"),
        ("gpt-oss-20b-MXFP4_MOE", "MXFP4_MOE"),
        ("gemma-3-4b-it-f16", "F16"),
        ("x-fp16", "F16"),
        ("x-BF16", "BF16"),
        ("Qwen3-30B-A3B-UD-Q4_K_XL", "UD-Q4_K_XL"),
        ("x-IQ4_XS-3.63bpw", "IQ4_XS"),
        ("x-TQ1_0", "TQ1_0"),
        ("UD-Q2_K_XL/deepseek", "UD-Q2_K_XL"),
        ("Q4_K_M/x-Q8_0", "Q8_0"),
        ("model", ""),
        ("Qwen3-8B", ""),
        ("HQ4_1x", ""),
    ],
)
def test_quantisations_are_read_from_names(stem: str, quant: str) -> None:
    assert quant_of(stem) == quant


def test_four_bits_are_preferred_then_what_comes_near() -> None:
    names = [f"m-{quant}.gguf" for quant in reversed(PREFERRED)]
    for index in range(len(names), 0, -1):
        assert chosen(repo("m-Q2_K.gguf", *names[:index])) == [names[index - 1]]
    assert chosen(repo("only-Q2_K.gguf")) == ["only-Q2_K.gguf"]
    with pytest.raises(BadRequest, match="may mean several models"):
        chosen(repo("m-Q2_K.gguf", "m-Q3_K_S.gguf"))


def test_a_quantisation_is_matched_in_any_case_and_with_its_prefix() -> None:
    files = repo("m-Q4_K_M.gguf", "m-UD-Q4_K_XL.gguf", "m-Q8_0.gguf", "m-special.gguf")
    assert chosen(files, "q4_k_m") == ["m-Q4_K_M.gguf"]
    assert chosen(files, "Q4_K_XL") == ["m-UD-Q4_K_XL.gguf"]
    assert chosen(files, "UD-Q8_0") == ["m-Q8_0.gguf"]
    assert chosen(files, "special") == ["m-special.gguf"]
    with pytest.raises(UnknownModel, match=r"has no Q5_K_M\. It has: Q4_K_M, Q8_0, UD-Q4_K_XL"):
        chosen(files, "Q5_K_M")


def test_all_parts_of_a_split_model_in_order_and_only_if_complete() -> None:
    parts = [f"Q4_K_M/m-Q4_K_M-{number:05}-of-00003.gguf" for number in (3, 1, 2)]
    assert chosen(repo(*parts)) == sorted(parts)
    assert chosen(repo(*parts), file=parts[0]) == sorted(parts)
    assert variants(repo(*parts[:2])) == []
    with pytest.raises(UnknownModel, match="no GGUF model"):
        chosen(repo(*parts[:2]))


def test_what_is_no_model_is_left_aside() -> None:
    files = repo(
        "mmproj-m-F16.gguf", "m-Q4_K_M.gguf", "m.imatrix.gguf", "dflash-m-Q4_K_M.gguf", "../x-Q4_K_M.gguf", "README.md"
    )
    assert [variant.files[0].path for variant in variants(files)] == ["m-Q4_K_M.gguf"]


def test_a_long_list_is_cut() -> None:
    files = repo(*(f"m{number}.gguf" for number in range(100)))
    with pytest.raises(BadRequest, match="and 76 more") as caught:
        chosen(files)
    assert len(str(caught.value)) < 600


def test_names_and_parts_of_a_file() -> None:
    assert model_name("Q4/My Big  Model") == "my-big-model"
    assert stem_of("a-00001-of-00002.gguf") == "a"
    assert stem_of("a.gguf") == "a"
    assert parts_of("a-00002-of-00002.gguf") == ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]
    assert parts_of("a.gguf") == ["a.gguf"]


@given(st.lists(st.text(max_size=30).map(lambda text: text + ".gguf") | st.text(max_size=30), max_size=8))
def test_any_names_give_an_answer(names: list[str]) -> None:
    for variant in variants(repo(*names)):
        assert variant.files
        assert {file.path for file in variant.files} <= set(names)
