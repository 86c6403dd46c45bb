"""Which node holds which layers: pure functions from measured facts to a plan and its reasons."""
