"""Time of `nascli --help` and `nascli train --help`, beside the interpreter alone.

python benchmarks/startup.py --rounds 15
"""

import subprocess
import sys
import time

from common import Column, Figures, Task, arguments, compare, serve

VARIANTS: dict[str, Task] = {
    "python -c pass": {"measure": "start", "command": ["-c", "pass"]},
    "nascli --help": {"measure": "start", "command": ["-m", "nascli", "--help"]},
    "nascli train --help": {"measure": "start", "command": ["-m", "nascli", "train", "--help"]},
}


def start(task: Task) -> Figures:
    """Seconds of the command, the second time: the first fills the caches."""
    for _ in range(2):
        since = time.perf_counter()
        subprocess.run([sys.executable, *task["command"]], capture_output=True, check=True)
        seconds = time.perf_counter() - since
    return {"seconds": seconds}


MEASURES = {"start": start}


def main() -> None:
    asked = arguments(__doc__).parse_args()
    compare(__file__, asked, "Start-up", VARIANTS, [Column("seconds", "seconds", ".3f")])


if __name__ == "__main__" and not serve(MEASURES):
    main()
