"""What the dashboard shows, computed: polars frames in, small polars frames out. Knows no page and no model."""
