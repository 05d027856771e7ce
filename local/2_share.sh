#!/usr/bin/env bash
# usage: local/2_share.sh [--train-speakers-share SHARE] [--train-utterances-share SHARE] data/C data/C_NAME
#
# Stage 2, with a share of the training part: write data/C_NAME, on which the later stages run as on data/C. Its train and
# train_nosil have a share of the training speakers, and of the utterances of each (0.25: a quarter). They name the features of
# data/C. All other parts and the trial lists are links to those of data/C. A larger share contains a smaller one.
declare -A default=()
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C data/C_NAME" "$@"

run_stage deepspeaker share-training "${passed_on[@]}" --data-dir "$1" "$2"
