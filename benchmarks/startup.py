"""Wall-clock time of `import sim2real_aug` and of `sim2real-aug --help`, each in a fresh process.

    .venv/bin/python benchmarks/startup.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPEATS = 10
COMMANDS = {
    "bare python": [sys.executable, "-c", "pass"],
    "import sim2real_aug": [sys.executable, "-c", "import sim2real_aug"],
    "sim2real-aug --help": [str(Path(sys.executable).with_name("sim2real-aug")), "--help"],
}


def seconds(command: list[str]) -> list[float]:
    """Wall-clock seconds of each run of `command`, after one to warm the disk's cache."""
    spent = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        spent.append(time.perf_counter() - start)
    return spent[1:]


def main() -> None:
    measured = {name: seconds(command) for name, command in COMMANDS.items()}
    report = {
        name: {"median_s": round(statistics.median(spent), 3), "worst_s": round(max(spent), 3)}
        for name, spent in measured.items()
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
