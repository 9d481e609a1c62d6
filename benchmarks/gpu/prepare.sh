#!/usr/bin/env bash
# Collects in .gpu/ what a machine with a GPU and without a network needs beside this checkout. Run it where there is a
# network, from an environment in which nascli works (PYTHON, .venv/bin/python by default):
#
#   benchmarks/gpu/prepare.sh [cifar10_jpeg.tar.xz]
#
# The machine with the GPU has Python (VERSION, 3.12 by default) on Linux x86-64 with torch, torchvision, scipy,
# scikit-learn, matplotlib, h5py, rich, typer, pytest and hypothesis. What it lacks goes along as wheels: nascli, since
# its commands ask the installed package for its version, and PACKAGES, in the versions that are installed here.
# Without images, second.sh leaves out what trains on them.
set -euo pipefail
images=${1:+$(realpath "$1")}
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
packages=${PACKAGES:-pydantic pydantic-core annotated-types typing-inspection typing-extensions tomli-w hotcoco safetensors pyyaml}

rm -rf .gpu/wheels && mkdir -p .gpu/wheels
"$python" -m pip wheel --quiet --no-deps --wheel-dir .gpu/wheels .
# shellcheck disable=SC2086 # several words
pinned=$("$python" -c '
import sys; from importlib.metadata import version
print(*(f"{name}=={version(name)}" for name in sys.argv[1:]))' $packages)
platforms=$(for version in 2_34 2_28 2_27 2_17; do echo "--platform manylinux_${version}_x86_64"; done)
# shellcheck disable=SC2086
"$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version "${VERSION:-3.12}" --implementation cp \
  $platforms --platform manylinux2014_x86_64 --dest .gpu/wheels $pinned
[ -z "$images" ] || cp "$images" .gpu/images.tar.xz
du -sh .gpu
