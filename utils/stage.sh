# shellcheck shell=bash disable=SC2034  # the scripts that source this use the variables
# Source this first in a stage script: it sets strict mode, PATH and the launcher, and parses the options.
#
# Every stage has --config, --set, --cmd, --overwrite and --if-needed (true: skip a stage that has finished with these
# settings). Options that a script does not declare are passed on to the deepspeaker command, which checks them.
set -euo pipefail
set -f  # split $cmd into words, but do not expand wildcards in it
export LC_ALL=C

[ -f path.sh ] && [ -d local ] || { echo "${0##*/}: run this in the recipe's folder, such as recipes/librispeech" >&2; exit 2; }
. ./path.sh
. ./cmd.sh
default+=([config]=conf/default.yaml [if_needed]=false [overwrite]=false [cmd]=$cmd)
passed_on=()
. utils/parse_options.sh
[ -n "${DEEPSPEAKER_RUN_PID:-}" ] || utils/setup.sh  # run.sh has done it
export DEEPSPEAKER_RUN_PID=${DEEPSPEAKER_RUN_PID:-$$}  # launchers end their jobs when this process is gone
configuration=(--config "$config" "${overrides[@]}")

# arguments_are "names" "$@": check the number of arguments. "..." at the end of names allows more.
arguments_are() {
  local names
  read -ra names <<<"${1% ...}"
  if [ $(($# - 1)) -lt ${#names[@]} ] || { [ $(($# - 1)) -gt ${#names[@]} ] && [ "${1% ...}" = "$1" ]; }; then
    echo "${0##*/}: give options and then the arguments $1 (see --help)" >&2
    exit 2
  fi
}

# run_stage COMMAND [-- COMMAND...]: run the commands of a stage unless it has finished (see deepspeaker/stages.py).
run_stage() { deepspeaker stage --if-needed "$if_needed" --overwrite "$overwrite" -- "$@"; }

# jobs_for MINUTES UTT2DUR...: print --nj. Without it, print a number of jobs that is worth their start: one for each MINUTES of
# speech, at most one for each processor.
jobs_for() {
  if [ -n "$nj" ]; then echo "$nj"; return; fi
  { cat "${@:2}" 2>/dev/null || true; } | awk -v minutes="$1" -v most="$(nproc)" '
    { seconds += $2 }
    END { jobs = int(seconds / 60 / minutes); print(NR == 0 || jobs > most ? most : jobs < 1 ? 1 : jobs) }'
}

# gpus N: print the launcher's option for a job that needs N GPUs.
gpus() { if [ "$device" = cuda ]; then echo "--gpu $1"; fi; }

# Show progress bars only in a terminal.
if [ -t 2 ]; then progress=true; else progress=false; fi
