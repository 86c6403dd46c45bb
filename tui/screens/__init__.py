"""What fills the terminal, one screen or dialog to a file; each knows the app only by its messages and `face.py`."""
