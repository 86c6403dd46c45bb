"""Who I am and whom I trust: node key, mesh CA, roster of members, and the pairing exchange.

The roster (signed statements, grow-only) says who is a member; nothing else does. The CA keeps strangers out of the
handshake, and is rotated with every removal so that what a removed node holds ends: its key goes to members only.
"""
