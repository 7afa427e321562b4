"""The stage step."""
