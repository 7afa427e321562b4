"""The DAG, its parameters and its runners. Nobody imports this package but the command line."""
