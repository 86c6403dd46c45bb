"""Tests of peerinfer.placement."""
