"""Tests of `peerinfer.node`."""
