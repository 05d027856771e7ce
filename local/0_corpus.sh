#!/usr/bin/env bash
# usage: local/0_corpus.sh [--corpus demo|librispeech|kaldi|lhotse] [--corpus-dir DIR] [--parts "..."] [--mirror URL]
#        [--seed N] [--nj N] [--config FILE] [--set section.key=value] data/C
#
# Stage 0: gets a corpus. demo: synthesises one into data/C/corpus (synthetic speech, offline, under a minute).
# librispeech without --corpus-dir: downloads --parts ("all", "mini", or names) into data/C/corpus, checks and unpacks them;
# started again after an interruption it goes on where it was. With --corpus-dir: looks what is there.
options="corpus corpus-dir parts mirror nj"
corpus=demo corpus_dir='' parts='' mirror=https://www.openslr.org/resources nj=$(nproc)
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C" "$@"
data=$1

if [ "$corpus" != demo ] && [ -n "$corpus_dir" ]; then
  deepspeaker look --corpus "$corpus" "$corpus_dir"
  exit 0
fi
lock "$data"
uses "$data"
case $corpus in
  demo)
    begin 0 "$data" "${config_options[@]}" --section demo --option seed="$seed" -- --needs "$data/corpus/SPEAKERS.TXT"
    echo "synthesising speech, about half a minute"
    $cmd --follow true "$data/log/make_demo.log" deepspeaker make-demo "${config_options[@]}" --seed "$seed" \
      --jobs "$nj" "$data/corpus"
    ;;
  librispeech)
    if [ -z "${parts// /}" ]; then parts="train-clean-100 dev-clean test-clean"; fi
    begin 0 "$data" --option parts="$parts" -- --needs "$data/corpus/LibriSpeech"
    if [ -t 2 ]; then progress=true; else progress=false; fi
    $cmd --follow true "$data/log/download.log" deepspeaker download --parts "$parts" --mirror "$mirror" \
      --progress "$progress" "$data/corpus"
    ;;
  *) echo "0_corpus.sh: --corpus $corpus needs --corpus-dir DIR" >&2; exit 2 ;;
esac
finish
