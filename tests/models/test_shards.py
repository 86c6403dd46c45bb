"""Shard files: byte for byte the model's weights, written whole or not at all, and loaded by stock llama.cpp."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import llama_cpp
import numpy as np
import psutil
import pytest
from gguf import GGMLQuantizationType as QuantType
from gguf import GGUFValueType, GGUFWriter

from peerinfer.errors import CorruptModel, DiskFull, HomeError, UnsupportedModel
from peerinfer.models import atomic
from peerinfer.models.gguf import TensorInfo, read_header
from peerinfer.models.shards import ShardKey, ensure_shard, stage_key, vocab_key
from tests.tiny import write_tiny_llama

DIGEST = "0123456789abcdef" * 4
LAYERS = 5
RANGES = [(first, last) for first in range(LAYERS) for last in range(first + 1, LAYERS + 1)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS, tied=False, rope_freqs=True)


def shard(model: Path, first: int, last: int) -> Path:
    return ensure_shard(model, stage_key(DIGEST, first, last, LAYERS), model.parent / "shards")


def content(path: Path, tensor: TensorInfo) -> bytes:
    return path.read_bytes()[tensor.offset : tensor.offset + tensor.n_bytes]


def partials(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix == ".partial"]


@pytest.mark.parametrize(("first", "last"), RANGES)
@pytest.mark.parametrize("tied", [True, False])
def test_tensors_are_copied_byte_for_byte(tmp_path: Path, first: int, last: int, tied: bool) -> None:
    quant = QuantType.Q8_0
    model = write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS, tied=tied, rope_freqs=True, quant=quant)
    path = shard(model, first, last)
    whole, part = read_header(model), read_header(path)
    if (first, last) == (0, LAYERS):
        assert path == model
        return
    for tensor in part.tensors:
        name = tensor.name
        if name.startswith("blk."):
            _, layer, rest = name.split(".", 2)
            name = f"blk.{int(layer) + first}.{rest}"
        elif name == "token_embd.weight" and last == LAYERS and not tied:
            name = "output.weight"
        elif name in ("token_embd.weight", "output_norm.weight") and last < LAYERS:
            continue
        original = whole.by_name[name]
        assert (tensor.shape, tensor.type) == (original.shape, original.type)
        assert content(path, tensor) == content(model, original)
    per_layer = sum(name.startswith("blk.0.") for name in whole.by_name)
    assert len(part.tensors) == (last - first) * per_layer + len(("token_embd", "output_norm", "rope_freqs"))
    assert part.metadata["llama.block_count"] == last - first
    assert part.metadata["tokenizer.ggml.model"] == "none"
    assert part.metadata["llama.vocab_size"] == (320 if last == LAYERS else 1)
    assert not any(key.startswith("tokenizer.") and key != "tokenizer.ggml.model" for key in part.metadata)


def test_a_trunk_has_one_row_of_zeros_and_a_norm_of_ones(model: Path) -> None:
    path = shard(model, 1, 3)
    header = read_header(path)
    table, norm = header.by_name["token_embd.weight"], header.by_name["output_norm.weight"]
    assert table.shape == (64, 1)
    assert content(path, table) == bytes(64 * 4)
    assert content(path, norm) == np.ones(64, "<f4").tobytes()


def test_hyper_parameters_keep_value_and_type(model: Path) -> None:
    whole, part = read_header(model), read_header(shard(model, 2, 4))
    for key, value in whole.metadata.items():
        if key.startswith("llama.") and key not in ("llama.block_count", "llama.vocab_size"):
            assert part.metadata[key] == value
            assert part.types[key] == whole.types[key]


def test_the_vocabulary_file_has_the_whole_header_and_no_weights(model: Path) -> None:
    path = ensure_shard(model, vocab_key(DIGEST), model.parent / "shards")
    whole, part = read_header(model), read_header(path)
    assert part.tensors == ()
    assert set(part.metadata) == set(whole.metadata)
    for key, value in whole.metadata.items():
        assert list(np.asarray(part.metadata[key]).ravel()) == list(np.asarray(value).ravel())
    assert path.stat().st_size < 32_768


def test_arrays_with_an_item_per_layer_are_sliced(model: Path) -> None:
    path = model.with_name("uneven.gguf")
    header = read_header(model)
    writer = GGUFWriter(path, "llama")
    for key, value in header.metadata.items():
        if key.startswith("llama.") and key != "llama.attention.head_count_kv":
            writer.add_key_value(key, value, GGUFValueType(header.types[key][0]))
    writer.add_array("llama.attention.head_count_kv", [4, 1, 2, 4, 2])
    for tensor in header.tensors:
        values = np.frombuffer(content(model, tensor), "<f4").reshape(tensor.shape[::-1])
        writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part = read_header(shard(path, 1, 4))
    assert np.asarray(part.metadata["llama.attention.head_count_kv"]).tolist() == [1, 2, 4]
    assert part.types["llama.attention.head_count_kv"] == read_header(path).types["llama.attention.head_count_kv"]


def native(path: Path, vocab_only: bool = False) -> Any:
    """The model as llama.cpp loads it, or None; its prints are not wanted here."""
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = vocab_only
    return llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)


@pytest.mark.parametrize(
    "variant", [{}, {"tied": False}, {"rope_freqs": True}, {"experts": 3}, {"quant": QuantType.Q4_0}]
)
@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 4), (1, 3), (2, 5), (4, 5)])
def test_stages_load_in_llama_cpp(tmp_path: Path, variant: dict[str, Any], first: int, last: int) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS, **variant)
    loaded = native(shard(model, first, last))
    assert loaded
    assert llama_cpp.llama_model_n_layer(loaded) == last - first
    assert llama_cpp.llama_model_n_embd(loaded) == 64
    vocabulary: Any = llama_cpp.llama_model_get_vocab(loaded)
    assert llama_cpp.llama_vocab_n_tokens(vocabulary) == (320 if last == LAYERS else 1)
    llama_cpp.llama_model_free(loaded)


def test_the_vocabulary_file_tokenises_as_the_model(model: Path) -> None:
    path = ensure_shard(model, vocab_key(DIGEST), model.parent / "shards")
    ours = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    theirs = llama_cpp.Llama(str(model), vocab_only=True, verbose=False)
    text = "hello world, größe \x00?".encode()
    assert ours.tokenize(text) == theirs.tokenize(text)
    assert ours.detokenize(ours.tokenize(text)) == text
    assert llama_cpp.llama_model_chat_template(ours.model, None) == llama_cpp.llama_model_chat_template(
        theirs.model, None
    )


def test_a_shard_is_written_once(model: Path) -> None:
    path = shard(model, 0, 2)
    state = path.stat()
    assert shard(model, 0, 2) == path
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (state.st_mtime_ns, state.st_ino)


def test_a_shard_that_the_disk_damaged_is_written_again(model: Path) -> None:
    path = shard(model, 0, 2)
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    assert shard(model, 0, 2).read_bytes() == good


def test_progress_ends_at_one(model: Path) -> None:
    told: list[float] = []
    ensure_shard(model, stage_key(DIGEST, 0, 2, LAYERS), model.parent / "shards", told.append)
    assert told == sorted(told)
    assert told[-1] == 1


@pytest.mark.parametrize(
    ("first", "last", "kind"),
    [
        (0, 5, "trunk"),
        (3, 5, "trunk"),
        (1, 3, "last"),
        (2, 2, "trunk"),
        (3, 1, "trunk"),
        (-1, 2, "trunk"),
        (2, 6, "last"),
    ],
)
def test_a_range_that_is_no_such_stage_is_refused(model: Path, first: int, last: int, kind: str) -> None:
    with pytest.raises(UnsupportedModel):
        ensure_shard(model, ShardKey(DIGEST, first, last, kind), model.parent / "shards")
    assert not (model.parent / "shards").exists()


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", DIGEST.upper(), DIGEST[:-1] + "\n", DIGEST + "/x"])
def test_a_digest_never_becomes_a_path_unchecked(digest: str) -> None:
    with pytest.raises(UnsupportedModel):
        ShardKey(digest, 0, 1, "trunk")
    with pytest.raises(UnsupportedModel):
        ShardKey(DIGEST, 0, 1, "../trunk")


class Failure(NamedTuple):
    """How a system call is made to fail."""

    error: OSError
    raised: type[Exception]


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize(
    "failure",
    [
        Failure(OSError(errno.ENOSPC, "No space left on device"), DiskFull),
        Failure(OSError(errno.EIO, "Input/output error"), HomeError),
    ],
)
def test_a_failed_write_leaves_nothing(
    model: Path, monkeypatch: pytest.MonkeyPatch, call: str, failure: Failure
) -> None:
    def fail(*_arguments: object) -> None:
        raise failure.error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(failure.raised):
        shard(model, 0, 2)
    assert list((model.parent / "shards").iterdir()) == []
    monkeypatch.undo()
    read_header(shard(model, 0, 2))


class Killed(BaseException):
    """Stands for the end of the process: nothing after it is cleaned up."""


def test_a_crash_before_the_rename_leaves_no_shard_and_is_cleaned(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        patch.setattr(Path, "unlink", lambda *_arguments, **_options: None)
        with pytest.raises(Killed):
            shard(model, 0, 2)
    folder = model.parent / "shards"
    assert len(partials(folder)) == 1
    assert [path for path in folder.iterdir() if path.suffix == ".gguf"] == []
    monkeypatch.setattr(atomic, "_RUN", "00000000")  # the next life of the process, with the same process id
    path = shard(model, 0, 2)
    assert list(folder.iterdir()) == [path]


def test_partial_files_of_living_writers_stay(model: Path) -> None:
    folder = model.parent / "shards"
    folder.mkdir()
    dead = max(psutil.pids()) + 100_000
    living = folder / f".a.gguf.{psutil.Process().ppid()}-0123abcd-0123abcd.partial"
    mine = folder / f".a.gguf.{os.getpid()}-{atomic._RUN}-0123abcd.partial"
    other = folder / ".notours.partial"
    gone = folder / f".a.gguf.{dead}-0123abcd-0123abcd.partial"
    for path in (living, mine, other, gone):
        path.touch()
    shard(model, 0, 2)
    assert set(partials(folder)) == {living, mine, other}


def test_many_writers_of_one_shard_agree(model: Path) -> None:
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(shard(model, 1, 4))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert len(set(results)) == 1
    assert list((model.parent / "shards").iterdir()) == [results[0]]
    read_header(results[0])


def test_a_full_disk_is_noticed_before_the_write(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(model.parent)
    free: Callable[[Path], object] = lambda _path: usage._replace(free=atomic.DISK_RESERVE_BYTES)  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", free)
    with pytest.raises(DiskFull, match="Free some space"):
        shard(model, 0, 2)
    assert list((model.parent / "shards").iterdir()) == []


def test_a_tensor_of_unknown_use_forbids_cutting(model: Path) -> None:
    model.write_bytes(model.read_bytes().replace(b"rope_freqs.weight", b"rope_fracs.weight"))
    with pytest.raises(UnsupportedModel, match="rope_fracs"):
        shard(model, 0, 2)


def test_a_last_stage_needs_the_final_norm(model: Path) -> None:
    model.write_bytes(model.read_bytes().replace(b"output_norm.weight", b"blk.4.form1.weight"))
    with pytest.raises(CorruptModel, match="final norm"):
        shard(model, 2, 5)
