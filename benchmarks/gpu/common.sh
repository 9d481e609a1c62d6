# Sourced by first.sh and second.sh: paths, the wheels of prepare.sh, and how a command is run. REHEARSE=1 goes through
# everything on the CPU, at sizes that mean nothing.
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root" || exit 1
python=${PYTHON:-python3} work=$root/.gpu/work out=${OUT:-$root/.gpu/results}
device=cuda
[ -z "${REHEARSE:-}" ] || device=cpu
mkdir -p "$work" "$out"
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-4} NASCLI_RUNS=$work/runs
if [ -z "${REHEARSE:-}" ] && compgen -G '.gpu/wheels/*.whl' > /dev/null; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$work/site" \
    .gpu/wheels/*.whl || exit 1
fi
export PYTHONPATH=$root:$root/benchmarks:$work/site # the checkout before the wheel of it

note() { echo "[$SECONDS s] $*" | tee -a "$out/log.txt"; }

# run NAME SECONDS COMMAND...: what it prints goes to NAME.txt; a limit that ends it ends nothing else. A training or a
# search that is asked to stop saves its state; --foreground, since a second signal would end it at once.
run() {
  local name=$1 limit=$2
  shift 2
  timeout --foreground --kill-after 20 "$limit" "$@" > "$out/$name.txt" 2>&1
  note "$name ended ($?): $(tail -n 1 "$out/$name.txt" | cut -c1-200)"
}

unpack() {
  [ -f .gpu/images.tar.xz ] || { note "there are no images"; return 1; }
  mkdir -p "$work/images"
  "$python" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter="data")' \
    .gpu/images.tar.xz "$work/images"
  note "images unpacked: $(find "$work/images" -name '*.jpg' | wc -l)"
}
