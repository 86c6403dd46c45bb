"""Tests of `peerinfer.api`."""
