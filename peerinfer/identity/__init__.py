"""Who I am and whom I trust: node key, mesh CA, roster of members, and the pairing exchange."""
