"""How peers talk: discovery, mutual TLS, links, frames, messages, the switchboard and the pairing listener."""
