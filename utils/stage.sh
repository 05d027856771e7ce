# shellcheck shell=bash disable=SC2034  # what is set here is used by the scripts that source this
# To be sourced first by the stage scripts, from the recipe's folder: strict mode, PATH, the launcher, options.
#
# Every stage knows --config, --set, --cmd, --if-needed (true: end at once if the stage has finished with these settings)
# and --overwrite. Options that the script does not know go to the deepspeaker command, which checks them.
set -euo pipefail
set -f  # $cmd is split into words, but no wildcards are expanded
export LC_ALL=C

[ -f path.sh ] && [ -d local ] || { echo "${0##*/}: start it in the recipe's folder, such as recipes/librispeech" >&2; exit 2; }
. ./path.sh
. ./cmd.sh
default+=([config]=conf/default.yaml [if_needed]=false [overwrite]=false [cmd]=$cmd)
passed_on=()
. utils/parse_options.sh
utils/setup.sh
export DEEPSPEAKER_RUN_PID=${DEEPSPEAKER_RUN_PID:-$$}  # the launcher ends its jobs when this process is gone
configuration=(--config "$config" "${overrides[@]}")

# arguments_are "names" "$@": checks the number of arguments; "..." stands for any number of more.
arguments_are() {
  local names
  read -ra names <<<"${1% ...}"
  if [ $(($# - 1)) -lt ${#names[@]} ] || { [ $(($# - 1)) -gt ${#names[@]} ] && [ "${1% ...}" = "$1" ]; }; then
    echo "${0##*/}: give options and then the arguments $1 (--help tells more)" >&2
    exit 2
  fi
}

# run_stage COMMAND [-- COMMAND...]: runs the commands of a stage unless it has finished (see deepspeaker/stages.py).
run_stage() { deepspeaker stage --if-needed "$if_needed" --overwrite "$overwrite" -- "$@"; }

# gpus N: the launcher's option for a job that needs N GPUs.
gpus() { if [ "$device" = cuda ]; then echo "--gpu $1"; fi; }

# Progress bars are for terminals.
if [ -t 2 ]; then progress=true; else progress=false; fi
