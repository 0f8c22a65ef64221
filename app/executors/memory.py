"""Processes that the kernel has killed for want of memory, by its own count."""

from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def out_of_memory_kills() -> int:
    """Return how many processes of our cgroup (or, where that does not count, of the machine) the
    kernel has killed for want of memory so far; 0 where nobody counts."""
    for path in _counters():
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def _counters() -> Iterator[Path]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2; a container sees its own at the root
            yield _CGROUPS / path.lstrip("/") / "memory.events"
            yield _CGROUPS / "memory.events"
        elif "memory" in controllers.split(","):
            yield _CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control"
    yield Path("/proc/vmstat")
