#!/usr/bin/env bash
# usage: local/8_export.sh [--system triplet|softmax] [--fuse exp/OTHER] [--cohort N] [--licence NAME] [--source TEXT]...
#        [--voices TEXT] [--command TEXT] [--int8 true] [--half true] data/C exp/E
#
# Stage 8: write the trained network to exp/E/model, a folder that works anywhere: weights, an ONNX graph from samples to
# embedding, calibration, thresholds with their error rates, and a model card. "deepspeaker verify exp/E/model a.wav b.wav"
# uses it. --fuse adds the network of another experiment on the same features. --cohort N adds the mean embeddings of N training
# speakers, by which scores are normalised (adaptive s-norm). --licence, --source, --voices (whose voices it is measured on) and
# --command (how it was trained) are for the card.
declare -A default=()
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C exp/E" "$@"
data=$1 exp=$2

# shellcheck disable=SC2086  # split into words
run_stage $cmd --follow true "$exp/log/export.log" \
  deepspeaker export "${passed_on[@]}" --data-dir "$data" --exp-dir "$exp"
