"""Pulling: turns what a person types into whole, verified model files on this machine's disk.

A reference is parsed before anything else looks at it, and no part of it, nor of what a server answers, becomes a path
before it passed the checks of `reference.py`. Talking to servers is a child's work (`worker.py`), which is killed to
cancel; what it had fetched stays in a partial file and is gone on from. A file appears under its name only when its
SHA-256 is the one that the hub, or the person, gave. Everything is limited: redirects, retries, waiting, rates, sizes.
"""
