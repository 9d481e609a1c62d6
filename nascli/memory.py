"""Memory: how much of it there is, and is free."""

import os
import resource
from contextlib import suppress
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_GROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
"""Files of a container's limit and use, of both versions of control groups."""


def read_memory_limit() -> int | None:
    """Bytes that a container may take in all; None where nothing but the machine limits it."""
    for limit, _ in _GROUPS:
        with suppress(OSError, ValueError):  # "max" where there is no limit
            found = int((_CGROUP / limit).read_text())
            return found if found < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") else None
    return None


def measure_free_memory() -> int:
    """Bytes that this process can still take, as far as system, container and `ulimit -v` tell."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError, ValueError, StopIteration):
        with open("/proc/meminfo", encoding="ascii") as file:
            line = next(each for each in file if each.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) << 10)
    for limit, used in _GROUPS:
        with suppress(OSError, ValueError):  # "max" where there is no limit
            found.append(int((_CGROUP / limit).read_text()) - int((_CGROUP / used).read_text()))
    limit_of_addresses = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit_of_addresses != resource.RLIM_INFINITY:
        with suppress(OSError, ValueError), open("/proc/self/statm", encoding="ascii") as file:
            found.append(limit_of_addresses - int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE"))
    return max(0, min(found))
