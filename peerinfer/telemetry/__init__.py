"""What this machine can do now: one probe per source; a probe that fails degrades to what is known."""
