"""The program ``stelab``, also as ``python -m stelab``."""

from stelab.apps.main import main
from stelab.engine.ending import ending_at_once
from stelab.engine.spinning import spin_briefly_beside_others


def program() -> None:
    """Run what was typed, see `stelab.apps.main.main`, and end the process."""
    spin_briefly_beside_others()
    with ending_at_once():
        main()


if __name__ == "__main__":
    program()
