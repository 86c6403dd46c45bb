"""The scripts that set up and judge the project."""
