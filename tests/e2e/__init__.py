"""Real daemons in processes of their own, used through the command line and HTTP as people use them."""
