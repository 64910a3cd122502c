#!/usr/bin/env bash
# One process per GPU of this node, each with its share of the items, into one folder of runs.
#   SHARDS=4 OUT=results/runs/egoschema examples/one_shard_per_gpu.sh pair=llava_next_7b task=egoschema ...
set -euo pipefail
SHARDS=${SHARDS:-$(nvidia-smi --list-gpus | wc -l)}
OUT=${OUT:?name a folder for the runs}
share=$(($(nproc) / (2 * SHARDS)))
export PROBES_DECODE_PROCESSES=${PROBES_DECODE_PROCESSES:-$((share > 0 ? share : 1))}
jobs=()
for ((shard = 0; shard < SHARDS; shard++)); do
    CUDA_VISIBLE_DEVICES=$shard probes run "$@" shard=$shard shards=$SHARDS \
        hydra.run.dir="$OUT/shard-$shard" >"${TMPDIR:-/tmp}/probes-shard-$shard.log" 2>&1 &
    jobs+=($!)
done
failed=0
for job in "${jobs[@]}"; do wait "$job" || failed=1; done
probes merge "$OUT" --out "$OUT-merged"
exit $failed
