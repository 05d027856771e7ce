#!/usr/bin/env bash
# usage: local/2_fbank.sh [--config FILE] [--set section.key=value] [--nj N] [--cmd "utils/run.py"] [--max-skipped PERCENT]
#        [--allow-pipes true] data/C/train [data/C/dev data/C/test ...]
#
# Stage 2: for each data directory feats.scp (log-mel), vad.scp, utt2num_frames, and beside it *_nosil with the normalised
# speech frames. A directory that brings its own feats.scp gets *_nosil alone (without vad.scp every frame is speech).
# Where stage 1 left Lhotse manifests, the cuts of both come beside them.
declare -A default=([nj]=$(nproc))
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C/train ..." "$@"

for data in "$@"; do
  # shellcheck disable=SC2086  # words
  run_stage $cmd --pick failed JOB=1:"$nj" "$data/log/fbank.JOB.log" \
      deepspeaker fbank "${configuration[@]}" "${passed_on[@]}" --job JOB --num-jobs "$nj" "$data" \
    -- deepspeaker collect-fbank "${configuration[@]}" "${passed_on[@]}" --num-jobs "$nj" "$data"
done
