"""``python -m results ROOT`` writes what is made of ROOT/results/: pages, pictures, rates."""

import sys
from pathlib import Path

from results.answer import write_answer
from results.page import write_results
from results.rates import write_rates

if __name__ == "__main__":
    write_rates(Path(sys.argv[1]))
    write_results(Path(sys.argv[1]))
    write_answer(Path(sys.argv[1]))
