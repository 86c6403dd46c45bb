"""How a chat request moves through the stages: gateway, batcher, ring of stages, credits, ends and cancels."""
