"""``python -m stelab.engine.report.atlas FOLDER`` writes FOLDER/estimators.md and pictures."""

import sys
from pathlib import Path

from stelab.engine.report.atlas.page import write_atlas

if __name__ == "__main__":
    write_atlas(Path(sys.argv[1]))
