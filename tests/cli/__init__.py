"""Tests of `peerinfer.cli`."""
