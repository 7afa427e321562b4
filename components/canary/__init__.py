"""The canary step."""
