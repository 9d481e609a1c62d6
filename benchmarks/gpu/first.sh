#!/usr/bin/env bash
# Is nascli right on this GPU, and where does its time go? About four minutes; results in $OUT (.gpu/results by default),
# each as soon as it is known. What is found can then be mended at leisure. Limits are in seconds, and may be set.
. "$(dirname "$0")/common.sh"
tiny=()
[ -z "${REHEARSE:-}" ] || tiny=(--tiny)

{
  nvidia-smi
  "$python" --version
  "$python" -m pip list 2> /dev/null | grep -iE 'torch|triton|numpy|timm|pydantic|cudnn|nccl'
  nproc && df -h /dev/shm
} > "$out/machine.txt" 2>&1
run doctor 20 "$python" -m nascli doctor --json
run tests "${TESTS:-130}" make --no-print-directory test-gpu PYTHON="$python"
grep -E '^(FAILED|ERROR|E  )' "$out/tests.txt" | head -n 30
run probe "${PROBE:-110}" "$python" -m gpu.probe "$out/probe.jsonl" --device "$device" --seconds $((${PROBE:-110} - 10)) \
  ${tiny[@]+"${tiny[@]}"}
cut -c1-250 "$out/probe.jsonl" | tail -n 50
