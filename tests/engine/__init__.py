"""Tests of peerinfer.engine."""
