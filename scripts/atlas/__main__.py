"""``python -m atlas FOLDER [NAME...]`` writes FOLDER/estimators.md and pictures."""

import sys
from pathlib import Path

from atlas.page import write_atlas

if __name__ == "__main__":
    write_atlas(Path(sys.argv[1]), names=sys.argv[2:])
