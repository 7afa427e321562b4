"""What a trained model and its data are, for a person to read: Markdown cards made from the run, never by hand."""
