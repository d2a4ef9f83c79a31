"""Feed readers with damaged files for a while, and say how many held.

    make fuzz SECONDS=60            # each reader
    python tests/fuzz/run.py --seconds 10 --seed 7 bundle onnx

Whatever a reader raises besides its own errors ends the run with the file in build/fuzz.
"""

import argparse
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from fuzz.mutate import mutated  # noqa: E402
from fuzz.targets import Target, targets  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=float, default=60, help="for each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        known = targets(Path(scratch))
        if unknown := set(options.names) - set(known):
            parser.error(f"unknown target {min(unknown)!r}; there is {', '.join(known)}")
        total = 0
        for name in options.names or known:
            path = Path(scratch) / "input"
            count, refused = feed(name, known[name], path, options.seconds, options.seed)
            total += count
            print(f"{name:<12} {count:>9,} inputs, {refused:>9,} refused", flush=True)
        print(f"{'all':<12} {total:>9,} inputs")
    return 0


def feed(name: str, target: Target, path: Path, seconds: float, seed: int) -> tuple[int, int]:
    """How many inputs were tried, and how many refused."""
    rng, until = random.Random(seed), time.monotonic() + seconds
    count = refused = 0
    while time.monotonic() < until:
        content = mutated(target.seeds, rng)
        count += 1
        try:
            target.read(content, path)
        except target.errors:
            refused += 1
        except Exception:
            kept = ROOT / "build" / "fuzz" / f"{name}-{seed}-{count}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(content)
            traceback.print_exc()
            sys.exit(f"{name}: input {count} of seed {seed} is no error of one line; see {kept}")
    return count, refused


if __name__ == "__main__":
    sys.exit(main())
