"""What the cluster is and what it shall be: instances, the leader's duties, the worker's obedience."""
