"""The simulated mesh: the real machines under a virtual clock and a network that loses what it likes."""
