"""docs/results.md: what others published, beside what stelab's experiments gave."""
