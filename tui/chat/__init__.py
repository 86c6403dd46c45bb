"""A conversation: what was said, what is asked of the daemon, and how an answer comes. Pure."""
