"""References: the forms a person may type, everything else refused, and no way out of a folder."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from peerinfer.errors import BadRequest
from peerinfer.models.pull.reference import (
    FileReference,
    HubReference,
    ShortName,
    WebReference,
    allowed_url,
    parse_reference,
    safe_file,
)

DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("hf:owner/repo", HubReference("owner", "repo")),
        (" HF:owner/repo ", HubReference("owner", "repo")),
        ("hf://owner/repo", HubReference("owner", "repo")),
        ("hf.co/owner/Repo-1.5_B-GGUF:Q4_K_M", HubReference("owner", "Repo-1.5_B-GGUF", "Q4_K_M")),
        ("hf:owner/repo:latest", HubReference("owner", "repo")),
        ("hf:owner/repo:UD-Q4_K_XL", HubReference("owner", "repo", "UD-Q4_K_XL")),
        ("hf:owner/repo/a file.gguf", HubReference("owner", "repo", "", "a file.gguf")),
        ("hf:owner/repo/Q4/x-00001-of-00002.gguf", HubReference("owner", "repo", "", "Q4/x-00001-of-00002.gguf")),
        (f"https://h/x.gguf#sha256={DIGEST}", WebReference("https://h/x.gguf", DIGEST, "x.gguf")),
        (f"https://h/x%20y.GGUF?k#SHA256={DIGEST.upper()}", WebReference("https://h/x%20y.GGUF?k", DIGEST, "x y.GGUF")),
        (f"http://127.0.0.1:80/x.gguf#sha256={DIGEST}", WebReference("http://127.0.0.1:80/x.gguf", DIGEST, "x.gguf")),
        (f"http://[::1]/x.gguf#sha256={DIGEST}", WebReference("http://[::1]/x.gguf", DIGEST, "x.gguf")),
        ("/models/x.gguf", FileReference("/models/x.gguf")),
        ("~/x.gguf", FileReference("~/x.gguf")),
        ("../x", FileReference("../x")),
        ("x.gguf", FileReference("x.gguf")),
        ("C:\\models\\x.gguf", FileReference("C:\\models\\x.gguf")),
        ("smollm2\n", ShortName("smollm2")),
        ("SmolLM2:135M", ShortName("smollm2:135m")),
        ("qwen3:30b-a3b", ShortName("qwen3:30b-a3b")),
    ],
)  # fmt: skip
def test_what_may_be_typed(text: str, meant: object) -> None:
    assert parse_reference(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "hf:",
        "hf:owner",
        "hf:/repo",
        "hf:owner/",
        "hf:../repo",
        "hf:owner/..",
        "hf:.owner/repo",
        "hf:owner/re--po",
        "hf:owner/repo.git",
        "hf:owner/repo.",
        "hf:con/repo",
        "hf:own er/repo",
        "hf:owner/repo:",
        "hf:owner/repo:Q4/K",
        "hf:owner/repo:../x",
        "hf:owner/repo/../x.gguf",
        "hf:owner/repo//x.gguf",
        "hf:owner/repo/x.safetensors",
        "hf:owner/repo/.x.gguf",
        "hf:owner/repo/a\\b.gguf",
        "hf:owner/repo/nul.gguf",
        "hf:owner/repo/a/b/c/d/e/x.gguf",
        "hf:owner/" + "r" * 97,
        "https://h/x.gguf",
        f"https://h/x.gguf#sha256={DIGEST[1:]}",
        f"https://h/x.gguf#md5={DIGEST}",
        f"https://h/x.gguf#{DIGEST}",
        f"http://h/x.gguf#sha256={DIGEST}",
        f"http://127.0.0.1.h/x.gguf#sha256={DIGEST}",
        f"http://10.0.0.1/x.gguf#sha256={DIGEST}",
        f"https://me:pw@h/x.gguf#sha256={DIGEST}",
        f"https:///x.gguf#sha256={DIGEST}",
        f"https://h:99999/x.gguf#sha256={DIGEST}",
        f"https://h/#sha256={DIGEST}",
        f"https://h/x.bin#sha256={DIGEST}",
        f"https://h/..%2fx.gguf#sha256={DIGEST}",
        f"https://h/%2e%2e#sha256={DIGEST}",
        f"https://h/a%00.gguf#sha256={DIGEST}",
        f"https://h/a b.gguf#sha256={DIGEST}",
        f"https://[/x.gguf#sha256={DIGEST}",
        "ftp://h/x",
        "two words",
        "name:size:more",
        "a/b",
        "\x1b[31m",
        "x" * 3000,
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_reference(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


PIECES = st.lists(
    st.sampled_from(
        ["hf:", "hf.co/", "https://h", "http://127.0.0.1", "owner", "repo", "/", "..", ".", "\\", ":", "%2f", "%2e",
         "%00", "C:", "~", ".gguf", "#sha256=" + DIGEST, "@", "nul", "\x00", " ", "--", "Q4_K_M", "é", "\u202e"]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@given(text=PIECES | st.text(max_size=60))
@example(text="hf:a/b/c.gguf")
def test_nothing_in_a_reference_leads_outside(text: str) -> None:
    try:
        reference = parse_reference(text)
    except BadRequest:
        return
    if not isinstance(reference, FileReference):
        assert parse_reference(str(reference)) == reference
    parts: list[str] = []
    if isinstance(reference, HubReference):
        parts = [reference.owner, reference.repo, *(reference.file.split("/") if reference.file else [])]
    elif isinstance(reference, WebReference):
        parts = [reference.file]
        assert allowed_url(urlsplit(reference.url))
    for part in parts:
        _is_one_plain_name(part)
    root = Path("/somewhere/models")
    assert len(root.joinpath(*parts).parts) == len(root.parts) + len(parts)


@given(path=PIECES | st.text(max_size=40))
def test_a_safe_file_stays_inside_on_every_system(path: str) -> None:
    if safe_file(path):
        for part in path.split("/"):
            _is_one_plain_name(part)


def _is_one_plain_name(part: str) -> None:
    assert PurePosixPath(part).name == part
    assert PureWindowsPath(part).name == part
    assert not PureWindowsPath(part).is_absolute()
    assert not PureWindowsPath(part).is_reserved()
    assert part.isprintable()
    assert part == part.strip()
    assert part not in {"", ".", ".."}
