#!/usr/bin/env bash
# usage: local/5_embed.sh [--config FILE] [--set section.key=value] [--nj N] [--cmd "utils/run.py"] [--device auto|cpu|cuda]
#        data/C exp/E
#
# Stage 5: embeddings of whole test utterances by the untrained network, after softmax and after triplet training:
# exp/E/SYSTEM/embeddings_test/xvector.scp, and the speakers' means as spk_xvector.scp. Where the back ends (scoring.backends)
# learn from training or development speakers, embeddings_train and embeddings_dev too.
options="nj device"
nj=$(nproc) device=auto
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C exp/E" "$@"
data=$1 exp=$2

lock "$exp"
uses "$data"
parts=$(deepspeaker parts-to-embed "${config_options[@]}")
begin 5 "$exp" "${config_options[@]}" --section embedding --option parts="$parts" --after "$data/test/.done.2" \
  --after "$exp/softmax/.done.3" --after "$exp/triplet/.done.4" -- \
  --needs "$exp/triplet/embeddings_test/xvector.scp" --work "$nj jobs" \
  --shards '*/embeddings_*/xvector.scp' --shards '*/embeddings_*/.shards' --shards '*/embeddings_*/log/embed.*.log'
for system in untrained softmax triplet; do
  for part in $parts; do
    [ -d "$data/${part}_nosil" ] ||
      { echo "5_embed.sh: $data/${part}_nosil: scoring.backends need it, and there is no such part" >&2; exit 1; }
    out=$exp/$system/embeddings_$part
    if [ "$part" = train ]; then training=true; else training=false; fi
    if [ -f "$out/xvector.scp" ] && [ ! -d "$out/.shards" ]; then continue; fi  # done before an interruption
    # shellcheck disable=SC2046  # words
    $cmd $(gpus 1) --pick "$(picked "$out")" JOB=1:"$nj" "$out/log/embed.JOB.log" deepspeaker embed "${config_options[@]}" --job JOB --num-jobs "$nj" \
      --device "$device" --training "$training" "$data/${part}_nosil" "$exp/$system" "$out"
    $cmd --follow true "$out/log/collect.log" deepspeaker collect-embeddings --num-jobs "$nj" "$data/${part}_nosil" "$out"
  done
done
finish
