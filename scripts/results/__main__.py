"""``python -m results ROOT`` writes ROOT/docs/results.md and its pictures from ROOT/results/."""

import sys
from pathlib import Path

from results.page import write_results

if __name__ == "__main__":
    write_results(Path(sys.argv[1]))
