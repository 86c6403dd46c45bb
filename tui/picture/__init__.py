"""The mesh as text: a canvas of characters, cards, the graph of nodes, the ring of stages. Pure."""
