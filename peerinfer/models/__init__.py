"""Model files: the bounded GGUF reader, shard files cut from a model, and the store that finds and names models."""
