"""The container images: what each holds, how it is built, and what is in it once it is. Knows no cluster."""
