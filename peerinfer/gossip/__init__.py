"""Who is here and in what state: signed snapshots, their order, and the table of members."""
