"""Models as the MLX community publishes them, made into ordinary GGUF files: a folder is converted once, by a child.

`config.py` and `hyperparameters.py` read the configuration, `vocabulary.py` the tokenizer, `tensors.py` says what
becomes of each tensor, `blocks.py` turns numbers into blocks, and `conversion.py` writes the file. What is not
understood is refused by its name: a model that runs but talks nonsense is worse than none.
"""
