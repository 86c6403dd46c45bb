"""Tests of peerinfer.process."""
