"""Model files: the bounded GGUF reader, shard files cut from a model, the store that finds and names models, and pulls.

A file is passed by our own reader before any other code opens it; a model is the SHA-256 of its file; what is written
appears under its name only when it is whole; a name from elsewhere is compared, never made a path. Calls block.
"""
