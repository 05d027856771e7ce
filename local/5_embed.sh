#!/usr/bin/env bash
# usage: local/5_embed.sh [--config FILE] [--set section.key=value] [--nj N] [--cmd "utils/run.py"] [--device auto|cpu|cuda]
#        [--parts "test train dev"] data/C exp/E
#
# Stage 5: embed whole test utterances with three systems: the network before training, after softmax and after triplet
# training. Each has its embeddings in exp/E/SYSTEM/embeddings_test/xvector.scp, and the mean embedding of each speaker in
# spk_xvector.scp. If the back ends (scoring.backends) are trained on training or development speakers, embeddings_train and
# embeddings_dev are written too.
declare -A default=([nj]='' [device]=auto [parts]='')
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C exp/E" "$@"
data=$1 exp=$2

if [ -z "$parts" ]; then parts=$(deepspeaker parts-to-embed "${configuration[@]}"); fi
durations=()
for part in $parts; do durations+=("$data/$part/utt2dur"); done
jobs=$(jobs_for 10 "${durations[@]}")
# shellcheck disable=SC2046,SC2086  # split into words
run_stage $cmd --pick failed $(gpus 1) JOB=1:"$jobs" "$exp/log/embed.JOB.log" \
    deepspeaker embed-systems "${configuration[@]}" "${passed_on[@]}" --job JOB --num-jobs "$jobs" --device "$device" \
      --parts "$parts" --data-dir "$data" --exp-dir "$exp" \
  -- deepspeaker collect-systems --num-jobs "$jobs" --parts "$parts" --data-dir "$data" --exp-dir "$exp"
