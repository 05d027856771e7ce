#!/usr/bin/env bash
# usage: local/2_fbank.sh [--config FILE] [--set section.key=value] [--nj N] [--cmd "utils/run.py"] [--max-skipped PERCENT]
#        [--allow-pipes true] data/C/train [data/C/dev data/C/test ...]
#
# Stage 2: for each data directory feats.scp (log-mel), vad.scp, utt2num_frames, and beside it *_nosil with the normalised
# speech frames. A directory that brings its own feats.scp gets *_nosil alone (without vad.scp every frame is speech).
# Where stage 1 left Lhotse manifests, the cuts of both come beside them.
options="nj max-skipped allow-pipes"
nj=$(nproc) max_skipped=5 allow_pipes=false
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C/train" "$@"

for data in "$@"; do
  [ -d "$data" ] || { echo "2_fbank.sh: $data: no such data directory" >&2; exit 1; }
done
# What a data directory says of its utterances; it may have changed since a run that was interrupted.
tables() {
  local table
  for table in utt2spk wav.scp segments feats.scp vad.scp; do
    if [ -f "$1/$table" ]; then cat "$1/$table"; fi
  done
}

for data in "$@"; do
  (
    lock "$data"
    after=()
    if [ -f "$(dirname "$data")/.done.1" ]; then
      uses "$(dirname "$data")"
      after=(--after "$(dirname "$data")/.done.1")
    fi
    begin 2 "$data" "${config_options[@]}" --section features ${after[@]+"${after[@]}"} \
      --option max-skipped="$max_skipped" -- --needs "$data/feats.scp" --needs "${data}_nosil/feats.scp" \
      --shards .shards --shards 'log/fbank.*.log' --work "$nj jobs, pipes $allow_pipes, $(tables "$data" | cksum)"
    $cmd --pick "$(picked "$data")" JOB=1:"$nj" "$data/log/fbank.JOB.log" deepspeaker fbank "${config_options[@]}" \
      --job JOB --num-jobs "$nj" --allow-pipes "$allow_pipes" "$data"
    $cmd --follow true "$data/log/collect_fbank.log" deepspeaker collect-fbank "${config_options[@]}" \
      --num-jobs "$nj" --max-skipped "$max_skipped" --allow-pipes "$allow_pipes" "$data"
    finish
  )
done
