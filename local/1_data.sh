#!/usr/bin/env bash
# usage: local/1_data.sh [--corpus demo|librispeech|kaldi|lhotse|folder] --corpus-dir DIR [--train-parts "..."] [--dev-parts "..."]
#        [--test-parts "..."] [--seed N] [--max-skipped PERCENT] [--allow-pipes true] [--merge-chapters true]
#        [--session-level N] [--allow-speaker-overlap true] data/C
#
# Stage 1: write Kaldi data directories data/C/{train,dev,test}, Lhotse manifests in data/C/manifests, and the trial lists
# data/C/test/trials_all, trials_1p99 and trials_enrol_1 to trials_enrol_5.
# The parts have different speakers. Without a development part, some training speakers become development speakers.
# The files test/trials, test/enrol_spk2utt and test/utt2X of a Kaldi corpus are copied.
# A folder of recordings without folders train and test is divided by the seed. --session-level writes test/utt2session. It is
# also written for LibriSpeech's ids, reader-chapter-number, where chapters count as sessions.
# --merge-chapters merges the speakers [lbi-]reader-chapter of Kaldi's LibriSpeech recipe by reader.
declare -A default=([corpus]=demo [corpus_dir]='')
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C" "$@"
data=$1
if [ -z "$corpus_dir" ]; then corpus_dir=$data/corpus; fi
if [ "$corpus_dir" = "$data/corpus" ] && [ "$corpus" = librispeech ]; then corpus_dir=$corpus_dir/LibriSpeech; fi

# shellcheck disable=SC2086  # split into words
run_stage $cmd --follow true "$data/log/prepare.log" \
  deepspeaker prepare "${configuration[@]}" --corpus "$corpus" --corpus-dir "$corpus_dir" \
    --name "$(basename "$data")" "${passed_on[@]}" "$data"
