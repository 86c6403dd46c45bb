"""The terminal face. It sees the API client, the folded cluster state and the errors, nothing below.

`mesh/` folds what the daemon tells, `picture/` draws it as text; both are pure. `screens/` and `widgets/` show it with
Textual; `feed.py` and `daemon.py` are the doors to the daemon's API and process.
"""
