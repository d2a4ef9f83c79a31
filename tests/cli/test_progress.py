"""Progress bars on a terminal."""

import os
import subprocess
import sys

import pytest

pty = pytest.importorskip("pty", reason="needs a terminal as Unix has it")

SCRIPT = """
from mqtool.cli.progress import progress_bars
with progress_bars() as progress:
    for number in range(30):
        advance = progress(f"job {number}", 2)
        advance(); advance(); advance()
    progress("last", 1)
"""


def test_finished_bars_make_room_and_may_be_advanced_too_often():
    """A bar a job, thirty jobs: the screen never holds more than two bars."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stderr=follower, env=environment
    ) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
    os.close(leader)
    assert process.returncode == 0
    assert b"job 29" in shown
    assert shown.count(b"\x1b[1A") < 60  # lines that the cursor went up to redraw
