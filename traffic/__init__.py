"""Plays production: simulated people ask the endpoint over HTTP, and what they see and do goes to the event stream."""
