"""Tests of `peerinfer.models`."""
