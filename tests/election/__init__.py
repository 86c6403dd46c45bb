"""Tests of peerinfer.election."""
