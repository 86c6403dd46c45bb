"""Stories of a simulated mesh, as text with the expected printout. See `tests/sim/story.py`."""
