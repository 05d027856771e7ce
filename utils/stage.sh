# shellcheck shell=bash disable=SC2034  # what is set here is used by the scripts that source this
# To be sourced first by the stage scripts, from the recipe's folder: strict mode, PATH, the launcher, options, marks.
#
# The script sets $options (the names of its options), their defaults, and sources this file. Every stage knows --config,
# --set, --cmd, --seed, --if-needed (true: end at once when the stage's mark says that it is finished).
set -euo pipefail
export LC_ALL=C

[ -f path.sh ] && [ -d local ] ||
  { echo "${0##*/}: start it from the recipe's folder, such as recipes/librispeech" >&2; exit 2; }
options="$options config set cmd seed if-needed"
config=conf/default.yaml
seed=0
if_needed=false
. ./path.sh
. ./cmd.sh
. utils/parse_options.sh
. utils/lock.sh
utils/setup.sh
command -v "${cmd%% *}" >/dev/null || { echo "${0##*/}: --cmd $cmd: no such program" >&2; exit 2; }
export DEEPSPEAKER_RUN_PID=${DEEPSPEAKER_RUN_PID:-$$}
config_options=(--config "$config" ${overrides[@]+"${overrides[@]}"})

# arguments_are "names" "$@": checks the number of arguments.
arguments_are() {
  local names
  read -ra names <<<"$1"
  [ $(($# - 1)) -ge ${#names[@]} ] ||
    { echo "${0##*/}: arguments wanted: $1 (--help tells more)" >&2; exit 2; }
}

# begin N FOLDER OPTION...: says whether and why the stage runs and notes that it began; ends the script when the stage is
# finished already. Options before "--" decide the result, those after it are for "mark begin" alone.
begin() {
  mark=()
  writes=()
  if [ "$1" -le 2 ] && [ -n "${DEEPSPEAKER_USES:-}" ]; then writes=(--writes 9); fi
  while [ $# -gt 0 ] && [ "$1" != -- ]; do mark+=("$1"); shift; done
  [ $# -eq 0 ] || shift
  local status=0
  deepspeaker mark begin "${mark[@]}" --if-needed "$if_needed" ${writes[@]+"${writes[@]}"} "$@" || status=$?
  if [ $status -eq 10 ]; then exit 0; fi
  [ $status -eq 0 ] || exit $status
  SECONDS=0
}

# picked FOLDER: which of the jobs that leave their shards there are to run. "begin" removes shards and logs of other work, so
# that what is there comes from a run that was interrupted, and only what failed in it, or was not reached, is done again.
picked() { if [ -d "$1/.shards" ]; then echo failed; else echo all; fi; }

# gpus N: what the launcher is told when a job needs N GPUs. With --device auto, nobody knows whether it does.
gpus() { if [ "$device" = cuda ]; then echo "--gpu $1"; fi; }

# finish: the stage's outputs are whole.
finish() {
  deepspeaker mark end "${mark[@]}"
  if [ ${#writes[@]} -gt 0 ]; then shared_again; fi
  echo "stage ${mark[0]} (${mark[1]}): finished in $SECONDS s"
}
