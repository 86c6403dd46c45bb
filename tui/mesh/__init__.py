"""What the terminal knows of the mesh: the daemon's state, what happened in words, rates over time. Pure."""
