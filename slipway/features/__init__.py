"""Feast, as this project uses it: stores of our own where the stock ones fall short, and fast online access."""
