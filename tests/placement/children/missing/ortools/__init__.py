"""An OR-Tools of which only the folder is left: it holds no solver."""
