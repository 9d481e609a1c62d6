"""How long `nascli --help` takes, beside the interpreter alone: fresh processes in turn, median and spread.

python benchmarks/startup.py
"""

import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "nascli --help": [sys.executable, "-m", "nascli", "--help"],
    "nascli train --help": [sys.executable, "-m", "nascli", "train", "--help"],
}
ROUNDS = 15


def seconds(command: list[str]) -> float:
    since = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - since


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for command in COMMANDS.values():
        seconds(command)  # once to fill the caches
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    rows = {
        name: {"median": statistics.median(each), "least": min(each), "most": max(each), "rounds": ROUNDS}
        for name, each in times.items()
    }
    print(json.dumps({"seconds": rows}, indent=2))


if __name__ == "__main__":
    main()
