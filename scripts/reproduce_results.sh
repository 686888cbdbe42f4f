#!/usr/bin/env bash
# Trains an experiment of results/ again, and compares with what is stored:
#   scripts/reproduce_results.sh NAME                all of it
#   scripts/reproduce_results.sh NAME seed=0 ...     some of it; any override of stelab train
# It ends with 1 where a metric is worse than the stored one, beyond the interval of the difference.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/bootstrap.sh"
name=${1:?"usage: scripts/reproduce_results.sh NAME [OVERRIDES...], NAME one of: $(ls "$root/results" | xargs)"}
archive=$root/results/$name/runs.tar.xz
[ -e "$archive" ] || { echo "there is no $archive: nothing is stored of $name" >&2; exit 2; }
bootstrap all
again=(paths.outputs="$root/outputs/again")
options=(against="$archive")
if [ -e "$root/results/$name/published.csv" ]; then  # by what was published, not by the task's headline
    metrics=$("$venv/bin/python" -c 'import csv, sys
print(",".join(dict.fromkeys(row["metric"] for row in csv.DictReader(sys.stdin))))' <"$root/results/$name/published.csv")
    options+=(metric="$metrics")
fi
"$venv/bin/stelab" train experiment="$name" study="$name" "${again[@]}" "${@:2}"
exec "$venv/bin/stelab" compare study="$name" "${again[@]}" "${options[@]}"
