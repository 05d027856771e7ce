#!/usr/bin/env bash
# usage: local/5_ivector.sh [--config FILE] [--set section.key=value] [--seed N] [--nj N] [--cmd "utils/run.py"]
#        [--posteriors SCP-OR-DIR] [--max-skipped PERCENT] [--allow-pipes true] data/C exp/E
#
# Stage 5, the i-vector baseline: MFCCs of the speech frames (data/C/PART_mfcc), a UBM and a total variability matrix by EM
# on the training part, and the i-vectors of all parts, exp/E/ivector/embeddings_PART/xvector.scp. The statistics of each
# iteration are collected in --nj shards; their number changes results by rounding only. An interrupted training continues.
# --posteriors gives frame posteriors from elsewhere, for example of senones: an scp of matrices (frames, classes) for all
# utterances, or a folder with posteriors.scp. Stage 6 scores i-vectors like the embeddings of the networks.
declare -A default=([nj]='' [seed]=0 [posteriors]='' [max_skipped]=5 [allow_pipes]=false)
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C exp/E" "$@"
data=$1 log=$2/ivector/log
export OMP_NUM_THREADS=1  # the jobs share the machine

iterations=$(deepspeaker ivector check "${configuration[@]}" --posteriors "$posteriors" "$data")
parts=("$data/train")
if [ -d "$data/dev" ]; then parts+=("$data/dev"); fi
parts+=("$data/test")
jobs=$(jobs_for 10 "${parts[@]/%//utt2dur}")
# shellcheck disable=SC2086  # split into words
run_stage $cmd --pick failed JOB=1:"$jobs" "$data/train_mfcc/log/mfcc.JOB.log" \
    deepspeaker ivector mfcc "${configuration[@]}" --max-skipped "$max_skipped" --allow-pipes "$allow_pipes" \
      --job JOB --num-jobs "$jobs" "${parts[@]}" \
  -- deepspeaker ivector collect-mfcc --max-skipped "$max_skipped" --num-jobs "$jobs" "${parts[@]}"

options=("${configuration[@]}" "${passed_on[@]}" --seed "$seed" --posteriors "$posteriors" --data-dir "$data" --exp-dir "$2"
  --num-jobs "$jobs")
steps=()
# array NAME COMMAND...: add an array of jobs. single NAME COMMAND...: add one job, whose output is shown. A job whose result
# exists ends at once.
# shellcheck disable=SC2206  # split into words
array() { steps+=(-- $cmd JOB=1:"$jobs" "$log/$1.JOB.log" deepspeaker ivector "${@:2}" --job JOB "${options[@]}"); }
# shellcheck disable=SC2206  # split into words
single() { steps+=(-- $cmd --follow true "$log/$1.log" deepspeaker ivector "${@:2}" "${options[@]}"); }

single ubm.0 update ubm --iteration 0
for i in $(seq "${iterations% *}"); do
  array "accumulate_ubm.$i" accumulate ubm --iteration "$i"
  single "ubm.$i" update ubm --iteration "$i"
done
array statistics statistics
for i in $(seq "${iterations#* }"); do
  array "accumulate_extractor.$i" accumulate extractor --iteration "$i"
  single "extractor.$i" update extractor --iteration "$i"
done
array extract extract
single collect collect
run_stage "${steps[@]}"
