"""Run layers a..b on this machine. Native code lives in child processes; the rest sees the protocol in base.py."""
