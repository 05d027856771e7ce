#!/usr/bin/env bash
# usage: local/1_data.sh [--corpus demo|librispeech|kaldi|lhotse] --corpus-dir DIR [--train-parts "..."] [--dev-parts "..."]
#        [--test-parts "..."] [--seed N] [--max-skipped PERCENT] [--allow-pipes true] [--merge-chapters true]
#        [--allow-speaker-overlap true] data/C
#
# Stage 1: Kaldi data directories data/C/{train,dev,test}, Lhotse manifests in data/C/manifests, trial lists
# data/C/test/trials_all, trials_1p99, trials_enrol_1 to trials_enrol_5. The speakers of the parts are disjoint; development
# speakers are carved out of training when none are given. A Kaldi corpus' test/trials, enrol_spk2utt and utt2X are passed on.
# With --merge-chapters the speakers [lbi-]reader-chapter of Kaldi's LibriSpeech recipe become readers.
declare -A default=([corpus]=demo [corpus_dir]='')
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C" "$@"
data=$1
if [ -z "$corpus_dir" ]; then corpus_dir=$data/corpus; fi
if [ "$corpus_dir" = "$data/corpus" ] && [ "$corpus" = librispeech ]; then corpus_dir=$corpus_dir/LibriSpeech; fi

# shellcheck disable=SC2086  # words

run_stage $cmd --follow true "$data/log/prepare.log" \
  deepspeaker prepare "${configuration[@]}" --corpus "$corpus" --corpus-dir "$corpus_dir" \
    --name "$(basename "$data")" "${passed_on[@]}" "$data"
