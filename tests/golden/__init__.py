"""The bytes of every wire message, kept in `wire.txt`: no release changes them by accident."""
