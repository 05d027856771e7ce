#!/usr/bin/env bash
# usage: local/2_fbank.sh [--config FILE] [--set section.key=value] [--nj N] [--cmd "utils/run.py"] [--max-skipped PERCENT]
#        [--allow-pipes true] data/C/train [data/C/dev data/C/test ...]
#
# Stage 2: for each data directory, compute log-mel features (feats.scp), the VAD (vad.scp) and utt2num_frames. The
# normalised speech frames go to a data directory beside it, *_nosil.
# If a directory already has feats.scp, only *_nosil is written. Without vad.scp, every frame then counts as speech.
# Lhotse cuts with these features are added to the manifests of stage 1. The same jobs compute all directories; their logs
# are in data/C/train/log.
declare -A default=([nj]='')
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C/train ..." "$@"

jobs=$(jobs_for 20 "${@/%//utt2dur}")
# shellcheck disable=SC2086  # split into words
run_stage $cmd --pick failed JOB=1:"$jobs" "$1/log/fbank.JOB.log" \
    deepspeaker fbank "${configuration[@]}" "${passed_on[@]}" --job JOB --num-jobs "$jobs" "$@" \
  -- deepspeaker collect-fbank "${configuration[@]}" "${passed_on[@]}" --num-jobs "$jobs" "$@"
