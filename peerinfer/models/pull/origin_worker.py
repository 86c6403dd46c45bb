"""The child that brings pieces of files from the hub, with the person's endpoint and token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import httpx2
import huggingface_hub.utils as hub_utils
from huggingface_hub import constants, hf_hub_url

from peerinfer import __version__
from peerinfer.errors import PullFailed
from peerinfer.models.pull.origin import PieceQuestion
from peerinfer.net.messages import unpack_fields
from peerinfer.packing import unpack
from peerinfer.process.inside import Emit, Part

CALL_MAX_BYTES: Final = 65_536
READ_S: Final = 30.0
"""Seconds without one byte."""
REDIRECTS_MAX: Final = 5

constants.HF_HUB_DISABLE_TELEMETRY = True
_hub_utils: Any = hub_utils


class OriginService:
    """Answers one piece after the other over one session."""

    def __init__(self) -> None:
        self._session = httpx2.Client(follow_redirects=True, max_redirects=REDIRECTS_MAX, timeout=READ_S)

    def __call__(self, kind: int, body: memoryview, emit: Emit) -> Sequence[Part]:  # noqa: ARG002  (one kind, no events)
        """The bytes of a piece. Raises `PullFailed`."""
        asked = unpack_fields(PieceQuestion, unpack(body, CALL_MAX_BYTES))
        file = asked.file
        url = hf_hub_url(f"{file.owner}/{file.repo}", file.file, revision=file.commit)
        headers: dict[str, str] = _hub_utils.build_hf_headers(library_name="peerinfer", library_version=__version__)
        headers |= {
            "Range": f"bytes={asked.offset}-{asked.offset + asked.n_bytes - 1}",
            "Accept-Encoding": "identity",
        }
        try:
            with self._session.stream("GET", url, headers=headers) as response:
                if response.status_code != 206:
                    raise PullFailed(f"The hub does not give a piece of {file.file} (status {response.status_code}).")
                return [_read(response, asked.n_bytes)]
        except httpx2.HTTPError as error:
            raise PullFailed(f"The hub cannot be reached ({str(error)[:160] or type(error).__name__}).") from None


def _read(response: httpx2.Response, n_bytes: int) -> bytes:
    content = bytearray()
    for piece in response.iter_raw():
        content += piece
        if len(content) > n_bytes:
            break
    if len(content) != n_bytes:
        raise PullFailed("The hub gave a piece of another length than it was asked for.")
    return bytes(content)


def open_service() -> OriginService:
    """The service of a fresh child."""
    return OriginService()
