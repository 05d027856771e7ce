#!/usr/bin/env bash
# usage: local/6_score.sh [--config FILE] [--set section.key=value] [--seed N] [--max-skipped PERCENT]
#        [--trials FILE]... [--enrolment FILE] [--allow-speaker-overlap true] data/C exp/E
#
# Stage 6: scores of each system on the lists data/C/test/trials*, on your own (--trials, several times; named by their file
# name) and on trials_hard, which is made here: exp/E/SYSTEM/scores_LIST_BACKEND and exp/E/results.json. Where a list's first
# column names enrolment models, --enrolment, FILE.spk2utt or data/C/test/enrol_spk2utt tell their utterances. A test speaker
# who was trained on stops it, unless --allow-speaker-overlap true insists.
options="max-skipped trials enrolment allow-speaker-overlap"
repeated=trials
max_skipped=5 trials=() enrolment='' allow_speaker_overlap=false
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C exp/E" "$@"
data=$1 exp=$2

own=() counted=()
for list in ${trials[@]+"${trials[@]}"}; do
  own+=(--trials "$list") counted+=(--file "$list")
  if [ -z "$enrolment" ] && [ -f "$list.spk2utt" ]; then counted+=(--file "$list.spk2utt"); fi
done
if [ -n "$enrolment" ]; then own+=(--enrolment "$enrolment") counted+=(--file "$enrolment"); fi

fused_with=$(deepspeaker fused-with "${config_options[@]}")
if [ -n "$fused_with" ]; then counted+=(--after "$fused_with/.done.5"); fi

lock "$exp"
uses "$data"
begin 6 "$exp" "${config_options[@]}" --section scoring --option max-skipped="$max_skipped" \
  --option allow-speaker-overlap="$allow_speaker_overlap" ${counted[@]+"${counted[@]}"} \
  --after "$data/.done.1" --after "$exp/.done.5" -- --needs "$exp/results.json"
$cmd --follow true "$exp/log/score.log" deepspeaker score "${config_options[@]}" --seed "$seed" \
  --max-skipped "$max_skipped" --allow-speaker-overlap "$allow_speaker_overlap" ${own[@]+"${own[@]}"} \
  --data-dir "$data" --exp-dir "$exp"
finish
