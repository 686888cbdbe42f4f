"""``python -m stelab``."""

from stelab.apps.main import main

main()
