"""The lake: versioned tables of Parquet below one store URI."""
