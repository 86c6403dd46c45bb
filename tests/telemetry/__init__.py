"""Tests of peerinfer.telemetry."""
