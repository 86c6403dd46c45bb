"""Tests of how peers talk."""
