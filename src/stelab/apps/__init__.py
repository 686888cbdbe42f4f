"""The command line: one file a command, `main` in front of them."""
