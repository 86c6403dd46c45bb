"""Who leads. Today the lowest live node id, behind the interface that the election will keep."""
