"""Where a redirect may lead: never from https to http, never to an address with a password in it; pure.

A hub in the house that somebody set up without TLS may redirect within itself.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from yarl import URL

from peerinfer.errors import PullFailed
from peerinfer.models.pull.reference import REFERENCE_MAX_CHARS, allowed_url

LOCATION_MAX_CHARS = 4 * REFERENCE_MAX_CHARS
"""Signed addresses of content networks are about 1,500 characters long."""


def next_url(url: URL, location: str) -> URL:
    """The address that the answer from `url` sends to. Raises `PullFailed` if it may not be gone to."""
    if not location or len(location) > LOCATION_MAX_CHARS:
        raise PullFailed(f"{url.host} redirects to nowhere. Check the address.")
    try:
        target = url.join(URL(location, encoded=True))
        named = target.user is not None or target.password is not None
        fine = allowed_url(urlsplit(str(target))) or (same_origin(target, url) and not named)
    except ValueError:
        fine, target = False, url
    if not fine:
        raise PullFailed(f"{url.host} redirects to an address that is not safe: only https is followed.")
    if url.scheme == "https" and target.scheme != "https":
        raise PullFailed(f"{url.host} redirects from https to http, which is not followed. Use another source.")
    return target


def same_origin(one: URL, other: URL) -> bool:
    """Whether both are of the same scheme, host and port: only then a token may be sent to both (RFC 6454)."""
    return one.origin() == other.origin()
