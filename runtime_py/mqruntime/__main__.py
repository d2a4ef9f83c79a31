"""Recognize WAV files, or test a bundle, with nothing but numpy and onnxruntime.

    python -m mqruntime app.mqz clip.wav [clip.wav ...] [--format srt] [--language de] [--task TASK]
    ffmpeg -i film.mp4 -f wav - | python -m mqruntime app.mqz - --format vtt
    python -m mqruntime selftest app.mqz [--verify key.pem.pub]

Exit code 0: done; 1: failed, with one line on stderr that says why; 2: wrong usage.
"""

import argparse
import os
import sys
from pathlib import Path

from mqruntime import __version__
from mqruntime.engine.operators import OPERATORS
from mqruntime.errors import AudioError, MqError
from mqruntime.formats import FORMATS, in_format, needs_times
from mqruntime.printing import print_anything, printable

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    print_anything()
    arguments = sys.argv[1:] if arguments is None else arguments
    is_test = arguments[:1] == ["selftest"]
    options = _test_parser().parse_args(arguments[1:]) if is_test else _parse(arguments)
    try:
        return _selftest(options) if is_test else _transcribe(options)
    except MqError as error:
        reason = str(error)
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output is gone: nothing left to say or flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        reason = f"{error.filename or 'system'}: {error.strerror or error}"
    except MemoryError:
        reason = "out of memory; use shorter recordings or a smaller model"
    except Exception as error:
        reason = f"a bug in mqruntime ({type(error).__name__}: {error}); report it"
    _say(reason)
    return 1


def _say(reason: str) -> None:
    print(f"Error: {printable(' '.join(reason.split()))}", file=sys.stderr)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mqruntime",
        description="Print what is said in WAV files. `mqruntime selftest MODEL` tests a bundle.",
    )
    parser.add_argument("model", type=Path, help=".mqz file or model folder")
    parser.add_argument("clips", type=Path, nargs="+", metavar="clip.wav", help="- for stdin")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="txt",
        help="of the output; srt, vtt and tsv are of one recording",
    )
    parser.add_argument("--language", help="spoken language (ISO code); default: detected")
    parser.add_argument(
        "--task", choices=["transcribe", "translate"], help="default: the model's own"
    )
    parser.add_argument("--timestamps", action="store_true", help="print when things are said")
    parser.add_argument(
        "--prompt", metavar="TEXT", help="names and words as they are spelled (Whisper)"
    )
    parser.add_argument(
        "--previous-text",
        action="store_true",
        help="give each window the text before it (Whisper)",
    )
    parser.add_argument(
        "--beam-size", "--beams", type=int, default=1, help="hypotheses to follow (Whisper)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="keep the unpacked model here, to open it faster the next time",
    )
    parser.add_argument("--version", action="version", version=__version__)
    _add_common(parser)
    options = parser.parse_args(arguments)
    if needs_times(options.format) and len(options.clips) > 1:
        parser.error(f"{options.format} is of one recording, not of {len(options.clips)}")
    return options


def _test_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mqruntime selftest",
        description="Compare what a bundle's model recognizes here with what it should.",
    )
    parser.add_argument("model", type=Path, help=".mqz file")
    _add_common(parser)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=0, help="0: onnxruntime's choice")
    parser.add_argument(
        "--any-operator",
        dest="operators",
        action="store_const",
        const=None,
        default=OPERATORS,
        help="run a model with operators that mqtool does not write",
    )
    parser.add_argument(
        "--verify", type=Path, metavar="PUB", help="refuse a bundle not signed with this key"
    )


def _transcribe(arguments: argparse.Namespace) -> int:
    from mqruntime.audio import load
    from mqruntime.options import DecodingOptions
    from mqruntime.recognition import Recognizer

    options = DecodingOptions(
        timestamps=arguments.timestamps or needs_times(arguments.format) or None,
        beam_size=arguments.beam_size,
        task=arguments.task,
        prompt=arguments.prompt,
        previous_text=arguments.previous_text,
    )
    threads, key = arguments.threads, arguments.verify
    cache = arguments.cache
    with Recognizer.open(
        arguments.model,
        threads=threads,
        public_key=key,
        cache=cache,
        operators=arguments.operators,
    ) as recognizer:
        if cache is not None:
            print(f"{cache}: {recognizer.cache_bytes:,} bytes of this model", file=sys.stderr)
        rate = recognizer.manifest.sample_rate
        refused: list[str] = []
        for clip in arguments.clips:
            try:
                pcm = load(clip, rate)
                result = recognizer.transcribe(pcm, arguments.language, options=options)
            except AudioError as error:
                refused.append(str(error))
                continue
            if arguments.format == "txt" and len(arguments.clips) > 1:
                print(printable(f"{clip}:"))
            if arguments.format == "txt" and arguments.timestamps:
                for segment in result.segments:
                    print(f"{segment.start:8.2f} {segment.end:8.2f}  {printable(segment.text)}")
            else:
                print(in_format(result, arguments.format, str(clip)), end="", flush=True)
    for reason in refused:
        _say(reason)
    return int(bool(refused))


def _selftest(arguments: argparse.Namespace) -> int:
    from mqruntime.bundle.file import Bundle
    from mqruntime.bundle.selftest import selftest
    from mqruntime.recognition import Recognizer

    bundle = Bundle.open(arguments.model, arguments.verify)
    failed = 0
    with Recognizer.open_bundle(
        bundle, threads=arguments.threads, operators=arguments.operators
    ) as recognizer:
        for check in selftest(bundle, recognizer):
            failed += not check.passed
            print(
                f"{'ok    ' if check.passed else 'FAILED'} {check.expected.pcm}: "
                f"{check.found.text!r}, outputs off by {check.worst:.3f} tolerances"
            )
            if not check.passed:
                print(f"       should be: {check.expected.text!r}")
    if failed:
        message = "does not recognize here what it did where it was made; do not rely on it"
        print(f"Error: {arguments.model}: {message}", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
