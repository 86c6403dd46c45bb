"""Answers what peers ask about models here. They verify what they get, so bytes go out as they lie on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from peerinfer.errors import UnknownModel
from peerinfer.models.exchange import Question, Wanted, bits_of, decode_question
from peerinfer.models.holdings import held_tensors, read_chunk
from peerinfer.models.library import Library
from peerinfer.models.manifest import Manifest, encode_manifest
from peerinfer.models.throttle import Throttle
from peerinfer.net.bulk import Stream


class Giver:
    """Gives peers the models of `library`, no faster than `throttle` lets it."""

    def __init__(self, library: Library, throttle: Callable[[], Throttle]) -> None:
        self._library = library
        self._throttle = throttle

    def answer(self, peer: str, data: bytes) -> Stream:  # noqa: ARG002  (every member may ask)
        """What a peer gets for its question. Raises `BadFrame`, `UnknownModel`."""
        question = decode_question(data)
        manifest = self._library.manifest(question.digest)
        match question.wanted:
            case Wanted.MANIFEST:
                content = encode_manifest(manifest)
                return Stream(len(content), _once(content))
            case Wanted.ORIGIN:
                content = self._library.origin(question.digest)
                return Stream(len(content), _once(content))
            case Wanted.HEADER:
                number = question.numbers[0]
                if number >= len(manifest.parts):
                    raise UnknownModel("There is no such file of this model.")
                return Stream(manifest.parts[number].n_bytes, self._header(question.digest, manifest, number))
            case Wanted.HOLDINGS:
                count = len(manifest.tensor_bytes)
                return Stream(-(-count // 8), self._holdings(question.digest, count))
            case Wanted.CHUNKS:
                if max(question.numbers) >= manifest.n_chunks:
                    raise UnknownModel("There is no such part of this model.")
                size = sum(manifest.chunk(number).n_bytes for number in question.numbers)
                return Stream(size, self._chunks(question, manifest))

    async def _header(self, digest: str, manifest: Manifest, number: int) -> AsyncIterator[bytes]:
        dossier = await self._library.local(digest)
        yield await asyncio.to_thread(_first_bytes, dossier.paths[number], manifest.parts[number].n_bytes)

    async def _holdings(self, digest: str, count: int) -> AsyncIterator[bytes]:
        sources = await self._library.sources(await self._library.local(digest))
        yield bits_of([tensor for tensor in held_tensors(sources) if tensor < count], count)

    async def _chunks(self, question: Question, manifest: Manifest) -> AsyncIterator[bytes]:
        sources = await self._library.sources(await self._library.local(question.digest))
        for number in question.numbers:
            content = await asyncio.to_thread(read_chunk, manifest, number, sources)
            if content is None:
                raise UnknownModel("This node does not have that part of the model any more.")
            yield content
            await self._throttle().pause(len(content))


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _first_bytes(path: Path, n_bytes: int) -> bytes:
    with path.open("rb") as file:
        return file.read(n_bytes)
