"""The optimise step."""
