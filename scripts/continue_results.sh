#!/usr/bin/env bash
# Goes on with an experiment of results/, from what is stored of it, and stores what is finished:
#   scripts/continue_results.sh NAME [OVERRIDES...]     e.g. reinmax_vae model.bits=4 seed=0
# Stopped (Ctrl-C) or at the end, results/NAME and docs/results.md hold all finished runs.
set -uo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/bootstrap.sh"
name=${1:?"usage: scripts/continue_results.sh NAME [OVERRIDES...]"}
archive=$root/results/$name/runs.tar.xz outputs=paths.outputs=$root/outputs
bootstrap all
[ ! -e "$archive" ] || "$venv/bin/stelab" unpack archive="$archive" "$outputs" || exit
trap : INT TERM  # ends the training alone
"$venv/bin/stelab" train experiment="$name" study="$name" "$outputs" "${@:2}"
code=$?
"$venv/bin/stelab" export study="$name" output="$archive" overwrite=true "$outputs" && "$root/scripts/write_results" || exit
exit $code
