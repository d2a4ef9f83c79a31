"""Runs under qemu: hear BUNDLE CLIP... prints what mqruntime hears, as JSON."""

import json
import platform
import sys
from pathlib import Path

from mqruntime import Recognizer, load

heard = {}
with Recognizer.open(Path(sys.argv[1]), threads=1) as recognizer:
    for clip in sys.argv[2:]:
        result = recognizer.transcribe(load(Path(clip), recognizer.manifest.sample_rate))
        heard[Path(clip).name] = {
            "text": result.text,
            "tokens": result.tokens,
            "language": result.language,
            "score": result.score,
        }
print(json.dumps({"machine": platform.machine(), "heard": heard}))
