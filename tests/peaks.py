"""Peak memory of a process that runs a graph; reads /proc, so only on Linux."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path

import numpy as np
from mqruntime.engine.session import Session

def peak_kb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

session = Session(Path(sys.argv[1]), threads=1)
shape = [int(length) for length in sys.argv[2].split(",")]
values = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
before = peak_kb()
for _ in range(3):
    session.run(dict.fromkeys(session.inputs, values))
    print((peak_kb() - before) * 1024)
"""


def running_peaks(path: Path, shape: str) -> list[int]:
    """Bytes by which the peak is above that of opening a graph, after each of three runs.

    Every input is fed the same values, of this shape.
    """
    command = [sys.executable, "-c", SCRIPT, str(path), shape]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]
