"""``python -m stelab.report.atlas FOLDER`` writes FOLDER/estimators.md and FOLDER/estimators/."""

import sys
from pathlib import Path

from stelab.report.atlas.page import write_atlas

if __name__ == "__main__":
    write_atlas(Path(sys.argv[1]))
