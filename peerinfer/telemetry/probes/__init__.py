"""The probes: one source of facts per file, each independent of the others."""
