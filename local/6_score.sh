#!/usr/bin/env bash
# usage: local/6_score.sh [--config FILE] [--set section.key=value] [--seed N] [--max-skipped PERCENT] data/C exp/E
#
# Stage 6: cosine scores of each system on data/C/test/trials_*: exp/E/SYSTEM/scores_LIST_cosine and exp/E/results.json
# (EER, minDCF, rank-1 identification). A test speaker who was trained on stops it.
options="max-skipped"
max_skipped=5
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C exp/E" "$@"
data=$1 exp=$2

lock "$exp"
uses "$data"
begin 6 "$exp" "${config_options[@]}" --section scoring --option max-skipped="$max_skipped" \
  --after "$data/.done.1" --after "$exp/.done.5" -- --needs "$exp/results.json"
$cmd --follow true "$exp/log/score.log" deepspeaker score "${config_options[@]}" --seed "$seed" \
  --max-skipped "$max_skipped" --data-dir "$data" --exp-dir "$exp"
finish
