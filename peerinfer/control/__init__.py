"""What the cluster is and what it shall be: what people want, the leader's duties, the worker's obedience, and the
state of it all as events folded into one value. The machines are pure; `service.py` is their door."""
