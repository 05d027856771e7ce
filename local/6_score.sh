#!/usr/bin/env bash
# usage: local/6_score.sh [--config FILE] [--set section.key=value] [--seed N] [--max-skipped PERCENT]
#        [--trials FILE]... [--enrolment FILE] [--allow-speaker-overlap true] data/C exp/E
#
# Stage 6: score every system on every trial list, and write exp/E/SYSTEM/scores_LIST_BACKEND and exp/E/results.json.
# The lists are data/C/test/trials*, the files of --trials (named by their file names), and trials_hard, which this stage
# makes. If the first column of a list names enrolment models, their utterances come from --enrolment, FILE.spk2utt or
# data/C/test/enrol_spk2utt. The stage stops if a test speaker was in training, unless --allow-speaker-overlap is true.
declare -A default=()
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C exp/E" "$@"
data=$1 exp=$2

# shellcheck disable=SC2086  # split into words
run_stage $cmd --follow true "$exp/log/score.log" \
  deepspeaker score "${configuration[@]}" "${passed_on[@]}" --data-dir "$data" --exp-dir "$exp"
