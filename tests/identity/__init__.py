"""Tests of peerinfer.identity."""
