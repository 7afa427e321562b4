"""The recommender's experiments: each module with a DESCRIPTION and run(context) is one (slipway/experiments)."""
