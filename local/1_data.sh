#!/usr/bin/env bash
# usage: local/1_data.sh [--corpus demo|librispeech|kaldi|lhotse] --corpus-dir DIR [--train-parts "..."] [--dev-parts "..."]
#        [--test-parts "..."] [--seed N] [--max-skipped PERCENT] [--allow-pipes true] [--merge-chapters true]
#        [--allow-speaker-overlap true] data/C
#
# Stage 1: Kaldi data directories data/C/{train,dev,test}, Lhotse manifests in data/C/manifests, trial lists
# data/C/test/trials_all, trials_1p99, trials_enrol_1 to trials_enrol_5. The speakers of the parts are disjoint; development
# speakers are carved out of training when none are given. A Kaldi corpus' test/trials, enrol_spk2utt and utt2X are passed on.
# With --merge-chapters the speakers [lbi-]reader-chapter of Kaldi's LibriSpeech recipe become readers.
options="corpus corpus-dir train-parts dev-parts test-parts max-skipped allow-pipes merge-chapters allow-speaker-overlap"
corpus=demo corpus_dir='' train_parts='' dev_parts='' test_parts='' max_skipped=5 allow_pipes=false merge_chapters=false
allow_speaker_overlap=false
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C" "$@"
data=$1
corpus_dir=${corpus_dir:-$data/corpus}

insists=()
if [ "$allow_speaker_overlap" != false ]; then insists=(--option allow-speaker-overlap="$allow_speaker_overlap"); fi

lock "$data"
uses "$data"
merged=()
if [ "$merge_chapters" != false ]; then merged=(--option merge-chapters="$merge_chapters"); fi
begin 1 "$data" --option corpus="$corpus" --option train-parts="$train_parts" --option dev-parts="$dev_parts" \
  --option test-parts="$test_parts" --option seed="$seed" --option max-skipped="$max_skipped" \
  ${merged[@]+"${merged[@]}"} ${insists[@]+"${insists[@]}"} --corpus "$corpus" --corpus-dir "$corpus_dir" -- \
  --needs "$data/corpus.json" --needs "$data/test/trials_all"
$cmd --follow true "$data/log/prepare.log" deepspeaker prepare "${config_options[@]}" \
  --corpus "$corpus" --name "$(basename "$data")" --corpus-dir "$corpus_dir" --seed "$seed" \
  --train-parts "$train_parts" --dev-parts "$dev_parts" --test-parts "$test_parts" \
  --max-skipped "$max_skipped" --allow-pipes "$allow_pipes" --merge-chapters "$merge_chapters" \
  --allow-speaker-overlap "$allow_speaker_overlap" "$data"
finish
