"""Tests of peerinfer.gossip."""
