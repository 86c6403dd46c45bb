"""Tests of peerinfer.control."""
