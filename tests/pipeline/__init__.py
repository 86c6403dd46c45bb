"""Tests of peerinfer.pipeline."""
