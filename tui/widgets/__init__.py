"""Parts of screens, one to a file."""
