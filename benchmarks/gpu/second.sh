#!/usr/bin/env bash
# Results on this GPU, in about seven minutes: children per hour, two trainings, training step and inference beside their
# peers; with DETECT=60 (seconds) a step of a detector, too. All in $OUT (.gpu/results by default), in few files; a limit
# that ends one part ends no other.
. "$(dirname "$0")/common.sh"
children=(--trials 400 --set data.max_train_images=16000) training=(--epochs "${EPOCHS:-12}")
timing=(--rounds 2 --seconds 1) step=(--batch-size 128) networks=(--network large --network mnasnet)
detector=()
if [ -n "${REHEARSE:-}" ]; then
  children=(--trials 2 --filters 2 --cells-per-stage 1 --set train.batch_size=8)
  training=(--epochs 1 --filters 2 --cells-per-stage 1 --batch-size 8)
  timing=(--here --rounds 1 --seconds 0) step=(--filters 2 --batch-size 2) networks=(--network mnasnet --eager)
  detector=(--size 64 --batch-size 1 --boxes 2 --classes 3 --proposals 20)
fi

rm -rf "$work/runs"
if unpack; then
  images=(--dataset "folder:$work/images" --device "$device")
  run search "${SEARCH:-80}" "$python" -m nascli search "${images[@]}" --recipe cifar10-gpu --strategy evolution \
    "${children[@]}" --set train.epochs=1 --set search.warm_start_trials=0 --set 'halving.rungs=[]' --set rerank.top=0 \
    --out "$work/runs/search" --json
  note "children: $(grep -c '"finished"' "$work/runs/search/trials.jsonl")"
  for job in nasnet-a:nasnet-a:32 found:docs/found-cell.json:24; do # side by side
    IFS=: read -r name cell filters <<< "$job"
    run "train-$name" "${TRAIN:-190}" "$python" -m nascli train --cell "$cell" --filters "$filters" "${images[@]}" \
      --recipe cifar10-fast "${training[@]}" --out "$work/runs/$name" --json &
  done
  wait
  run evaluate 20 "$python" -m nascli evaluate "$work/runs/nasnet-a" "$work/runs/found" --flip --device "$device" --json
fi
run training-step "${STEP:-40}" "$python" benchmarks/training_step.py --device "$device" --precision bfloat16 \
  "${timing[@]}" "${step[@]}" --json "$out/training_step.json"
run inference "${INFERENCE:-50}" "$python" benchmarks/inference.py --device "$device" "${timing[@]}" "${networks[@]}" \
  --json "$out/inference.json"
[ -n "${REHEARSE:-}" ] || run compiled "${COMPILE:-60}" "$python" benchmarks/training_step.py --device "$device" \
  --precision bfloat16 --rounds 1 --seconds 1 "${step[@]}" --filters 32 --compiled --json "$out/compiled.json"
# a step of a detector beside torchvision's, where there is time for it
[ -z "${DETECT:-}" ] || run detection-step "$DETECT" "$python" benchmarks/detection_step.py --device "$device" \
  --precision bfloat16 "${timing[@]}" --rounds 1 ${detector[@]+"${detector[@]}"} \
  --json "$out/detection_step.json"
# without checkpoints, which are large; the weights of NASNet-A in a file of their own
tar -C "$work" -czf "$out/runs.tar.gz" --exclude '*.pt' --exclude '*.safetensors' runs 2> /dev/null
cp "$work/runs/nasnet-a/weights.safetensors" "$out/nasnet-a.safetensors" 2> /dev/null
ls -l "$out"
