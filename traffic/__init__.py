"""Plays production: simulated people ask the endpoint, look, click, rate and come back."""
