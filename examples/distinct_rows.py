"""A copy of a manifest without the test rows whose samples are also in the calibration rows.

Paths in the copy are relative to where it is written; nothing else changes.

    python examples/distinct_rows.py DATA/commands/manifest.csv work/commands.csv
"""

import csv
import os
import sys
from pathlib import Path

from mqtool.recordings.audio import read_pcm


def main() -> None:
    """Copy the rows of the splits calib and dev, and say what is left out."""
    source, target = map(Path, sys.argv[1:])
    with source.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] in ("calib", "dev")]
    heard = {read_pcm(source.parent / r["path"]).tobytes() for r in rows if r["split"] == "calib"}
    kept = []
    for row in rows:
        path = source.parent / row["path"]
        if row["split"] == "dev" and read_pcm(path).tobytes() in heard:
            print(f"left out: {row['path']}")
            continue
        kept.append({**row, "path": os.path.relpath(path.resolve(), target.parent.resolve())})
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)


if __name__ == "__main__":
    main()
