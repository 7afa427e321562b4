"""Exit codes beside 0 (done) and 1 (an error, told with its remedy), as scripts and pipelines read them."""

REFUSED = 3  # by the gate: everything ran, and the challenger is not good enough
INTERRUPTED = 130  # by Ctrl-C, as shells say it
