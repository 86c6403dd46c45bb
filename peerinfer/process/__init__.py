"""Child processes with limits: one way to run native or risky code.

`child.py` is the daemon's side, `inside.py` the child's, `pipe.py` the frames between them. A child ends when
its pipe closes, so no orphan outlives the daemon; its death is an event that the daemon lives through.
"""
