"""An OR-Tools whose native part does not fit this system."""

raise ImportError("libortools.so.9: wrong ELF class")
