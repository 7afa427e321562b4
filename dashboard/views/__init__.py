"""One module per page, each with `view(scope)`."""
