#!/usr/bin/env bash
# The whole way, from data to boxes, on real images: six commands, about three and a half minutes on two CPU cores. Then the
# first five once more with mobile blocks (MnasNet), the other family of architectures: another one and a half.
# Everything lands in demo/ (another folder as the first argument); a second run replaces the first.
set -euo pipefail
demo=${1:-demo}
say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }

# 1. Try cells: each is trained for a few epochs on most of the handwritten digits and scored on the rest.
say "1/6 search a cell"
nascli search --dataset digits --trials 16 --out "$demo/search" --overwrite

# 2. Take the best one out, look at it, draw it.
say "2/6 decode the best cell"
nascli decode "$demo/search" --out "$demo/best.json" --draw "$demo/cell.svg" --draw "$demo/cell.png" --overwrite

# 3. Stack it into a network; any size will do.
say "3/6 build a network of it"
nascli build --cell "$demo/best.json" --filters 16 --cells-per-stage 1 --image-size 16 --out "$demo/network" --overwrite

# 4. Train that network to the end, with all training images.
say "4/6 train"
nascli train --cell "$demo/network/network.json" --dataset digits --out "$demo/train" --overwrite

# 5. Measure it on images it never saw.
say "5/6 evaluate"
nascli evaluate "$demo/train"

# 6. Carry its features over to detection: find digits in scenes, then on one image of our own.
say "6/6 detect"
nascli detect --dataset digit-scenes --data-dir "$demo/data" --backbone "$demo/train" --out "$demo/detect" --overwrite
image=$(find "$demo/data/digit-scenes/val" -name "*.png" | sort | head -n 1)
nascli detect predict "$image" --run "$demo/detect" --out "$demo/detect/predictions" --overwrite

# The same with mobile blocks: the space alone is another, and width scales a network in place of filters and cells.
say "and with mobile blocks"
nascli search --space mnasnet --dataset digits --trials 12 --out "$demo/mobile/search" --overwrite
nascli decode "$demo/mobile/search" --out "$demo/mobile/best.json" --draw "$demo/mobile/blocks.png" --overwrite
nascli build --cell "$demo/mobile/best.json" --image-size 16 --preset mnasnet-cifar --width 0.35 --out "$demo/mobile/network" --overwrite
nascli train --cell "$demo/mobile/network/network.json" --dataset digits --out "$demo/mobile/train" --overwrite
nascli evaluate "$demo/mobile/train"

say "What was reached, and where it lies"
nascli runs "$demo"
printf '\nimages: %s (the cell), %s (boxes), %s (mobile blocks)\n' \
  "$demo/cell.png" "$demo/detect/predictions" "$demo/mobile/blocks.png"
