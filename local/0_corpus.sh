#!/usr/bin/env bash
# usage: local/0_corpus.sh [--corpus demo|librispeech|kaldi|lhotse|folder] [--corpus-dir DIR] [--parts "..."] [--mirror URL]
#        [--seed N] [--nj N] [--config FILE] [--set section.key=value] data/C
#
# Stage 0: get a corpus.
# demo: synthesise it in data/C/corpus (synthetic speech, offline, under a minute).
# librispeech without --corpus-dir: download --parts ("all", "mini", or names) to data/C/corpus, check and unpack them.
# Interrupted downloads resume.
# With --corpus-dir: only list what the corpus contains.
declare -A default=([corpus]=demo [corpus_dir]='' [parts]='' [mirror]=https://www.openslr.org/resources [seed]=0 [nj]='')
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C" "$@"
data=$1

if [ -n "$corpus_dir" ]; then
  deepspeaker look "${passed_on[@]}" --corpus "$corpus" "$corpus_dir"
elif [ "$corpus" = demo ]; then
  # shellcheck disable=SC2086  # split into words
  run_stage $cmd --follow true "$data/log/make_demo.log" \
    deepspeaker make-demo "${configuration[@]}" "${passed_on[@]}" --seed "$seed" --jobs "${nj:-$(nproc)}" "$data/corpus"
elif [ "$corpus" = librispeech ]; then
  # shellcheck disable=SC2086  # split into words
  run_stage $cmd --follow true "$data/log/download.log" \
    deepspeaker download "${passed_on[@]}" --parts "${parts:-train-clean-100 dev-clean test-clean}" --mirror "$mirror" \
      --progress "$progress" "$data/corpus"
else
  echo "0_corpus.sh: --corpus $corpus needs --corpus-dir DIR" >&2
  exit 2
fi
