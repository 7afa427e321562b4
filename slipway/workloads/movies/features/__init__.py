"""The recommender's features: what they are, in a batch and event by event. Knows no feature store."""
