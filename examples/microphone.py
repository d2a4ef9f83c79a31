"""Live transcription from the microphone.

    pip install sounddevice
    python examples/microphone.py app.mqz [--language de]

Text of what is being said changes until the speaker pauses; Ctrl-C ends. Nothing is recorded.
"""

import argparse
import queue
import sys
from pathlib import Path

import numpy as np

from mqruntime import Recognizer

CHUNK_SECONDS = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help=".mqz file or model folder")
    parser.add_argument("--language")
    arguments = parser.parse_args()
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: no PortAudio library
        sys.exit(f"{error}; run: pip install sounddevice (and install PortAudio)")

    chunks: queue.Queue[np.ndarray] = queue.Queue()
    with Recognizer.open(arguments.model) as recognizer:
        rate = recognizer.manifest.sample_rate
        stream = recognizer.stream(arguments.language)
        microphone = sounddevice.InputStream(
            samplerate=rate,
            channels=1,
            dtype="float32",
            blocksize=round(CHUNK_SECONDS * rate),
            callback=lambda pcm, *_: chunks.put(pcm[:, 0].copy()),
        )
        print("Speak; Ctrl-C ends.", file=sys.stderr)
        with microphone:
            try:
                while True:
                    waiting = [chunks.get()]
                    while not chunks.empty():  # recognition took longer than a chunk
                        waiting.append(chunks.get())
                    for heard in stream.feed(np.concatenate(waiting)):
                        end = "\n" if heard.is_final else ""
                        print(f"\r\033[K{heard.text}", end=end, flush=True)
            except KeyboardInterrupt:
                for heard in stream.finish():
                    print(f"\r\033[K{heard.text}")


if __name__ == "__main__":
    main()
