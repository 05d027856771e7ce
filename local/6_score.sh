#!/usr/bin/env bash
# usage: local/6_score.sh [--config FILE] [--set section.key=value] [--seed N] [--max-skipped PERCENT]
#        [--trials FILE]... [--enrolment FILE] [--allow-speaker-overlap true] data/C exp/E
#
# Stage 6: scores of each system on the lists data/C/test/trials*, on your own (--trials, several times; named by their file
# name) and on trials_hard, which is made here: exp/E/SYSTEM/scores_LIST_BACKEND and exp/E/results.json. Where a list's first
# column names enrolment models, --enrolment, FILE.spk2utt or data/C/test/enrol_spk2utt tell their utterances. A test speaker
# who was trained on stops it, unless --allow-speaker-overlap true insists.
declare -A default=()
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C exp/E" "$@"
data=$1 exp=$2

# shellcheck disable=SC2086  # words

run_stage $cmd --follow true "$exp/log/score.log" \
  deepspeaker score "${configuration[@]}" "${passed_on[@]}" --data-dir "$data" --exp-dir "$exp"
