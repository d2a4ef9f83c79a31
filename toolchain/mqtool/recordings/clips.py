"""Recordings: what a user points at, as 16 kHz mono float32, one clip in memory at a time.

CLIPS is a folder (searched recursively, files sorted by path), a zip file (likewise), audio files,
or manifests (`mqtool.recordings.manifests`).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mqtool.errors import AudioError, ClipsError
from mqtool.recordings.audio import ENDINGS, SAMPLE_RATE, audio_seconds, read_pcm
from mqtool.recordings.clips_zip import entry_names, opened_entry
from mqtool.recordings.manifests import ENDINGS as MANIFEST_ENDINGS
from mqtool.recordings.manifests import read_rows, select_rows

__all__ = [
    "CALIBRATION_LIMIT",
    "PROBE_CLIPS",
    "Clip",
    "find_clips",
    "pcm_sha256",
    "probe_clips",
]

PROBE_CLIPS = 8
CALIBRATION_LIMIT = 600.0  # seconds a clip; longer ones are whole recordings, not clips


@dataclass(frozen=True)
class Clip:
    """One recording, read when asked for.

    Attributes:
        path: the audio file; of one in a zip file, its name there after the zip's path.
        transcript: what is said, None if the manifest does not tell.
        group: whatever the clips are grouped by (gender, language, speaker).
        language: ISO code of what is spoken, None if neither the manifest nor the caller tells.
        fields: the manifest's row, with the caller's `language`; empty without a manifest.
        archive: the zip file that holds the recording; None for a file of its own.
        entry: its name in the zip file.
        longest: seconds it may last, None for as long as any recording.
    """

    path: Path
    transcript: str | None = None
    split: str | None = None
    group: str | None = None
    speaker: str | None = None
    language: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    archive: Path | None = None
    entry: str = ""
    longest: float | None = None

    def pcm(self, rate: int = SAMPLE_RATE) -> np.ndarray:
        """Read the recording: float32 [samples], mono, at a rate in Hz.

        Raises:
            AudioError: see `read_pcm`.
        """
        with self._opened() as file:
            return read_pcm(self.path, file, self.longest, rate)

    def seconds(self) -> float:
        """Length of the recording.

        Raises:
            AudioError: see `audio_seconds`.
        """
        with self._opened() as file:
            return audio_seconds(self.path, file)

    def _opened(self) -> AbstractContextManager[BinaryIO | None]:
        return nullcontext() if self.archive is None else opened_entry(self.archive, self.entry)


def find_clips(
    sources: Sequence[Path],
    *,
    split: str | None = None,
    group: str | None = None,
    language: str | None = None,
    longest: float | None = None,
) -> list[Clip]:
    """Find clips without reading their samples.

    Args:
        sources: folders, zip files, audio files and manifests, in this order.
        split: value of this column of manifest rows; the sources must be manifests.
        group: see `split`.
        language: ISO code of what is spoken. Manifest rows that name another are left out; every
            other recording is taken as this one.
        longest: seconds; refuse longer clips now (calibration: `CALIBRATION_LIMIT`).

    Raises:
        ClipsError: a source is missing or empty, a manifest is malformed, or nothing is selected.
        AudioError: a clip is longer than `longest`, or its header cannot be read (only checked
            with `longest`).
    """
    clips: list[Clip] = []
    for source in sources:
        clips += _clips_of(Path(source), split, group, language)
    if not clips:
        raise ClipsError("no clips given; name a folder, audio files or a manifest")
    if longest is not None:
        for clip in clips:
            seconds = clip.seconds()
            if seconds > longest:
                raise AudioError(
                    f"{clip.path}: {seconds:.0f} s long, at most {longest:.0f} s can be used; "
                    f"cut it into clips"
                )
        return [replace(clip, longest=longest) for clip in clips]
    return clips


def pcm_sha256(clips: Iterable[Clip]) -> str:
    """SHA-256 over the decoded samples of all clips, in order: what a model was calibrated on.

    Each clip adds its sample count (8 bytes, little endian) and its float32 samples (little
    endian); names and metadata do not count.
    """
    digest = hashlib.sha256()
    for clip in clips:
        pcm = clip.pcm()
        digest.update(len(pcm).to_bytes(8, "little"))
        digest.update(pcm.astype("<f4", copy=False).data)
    return digest.hexdigest()


def probe_clips(clips: Sequence[Clip]) -> Sequence[Clip]:
    """`PROBE_CLIPS` at most, spread over those given: where one run a layer must be enough."""
    return clips[:: max(1, len(clips) // PROBE_CLIPS)][:PROBE_CLIPS]


def _clips_of(
    source: Path, split: str | None, group: str | None, language: str | None
) -> list[Clip]:
    if source.suffix.lower() in MANIFEST_ENDINGS and source.is_file():
        return _manifest_clips(source, split, group, language)
    given = [name for name, value in (("--split", split), ("--group", group)) if value is not None]
    if given:
        raise ClipsError(f"{source}: {' '.join(given)} can select rows of a manifest only")
    return [replace(clip, language=language) for clip in _unlisted_clips(source)]


def _unlisted_clips(source: Path) -> list[Clip]:
    """Clips that no manifest tells about: of a folder, a zip file, or one audio file."""
    if source.is_dir():
        paths = sorted(path for path in source.rglob("*") if _is_audio(path))
        if not paths:
            raise ClipsError(f"{source}: no audio files in this folder")
        return [Clip(path) for path in paths]
    if not source.exists():
        raise ClipsError(f"{source}: no such file or folder")
    if source.suffix.lower() == ".zip":
        return _zipped_clips(source)
    return [Clip(source)]


def _zipped_clips(archive: Path) -> list[Clip]:
    clips = [
        Clip(Path(f"{archive}/{name}"), archive=archive, entry=name)
        for name in entry_names(archive)
        if _is_audio(Path(name))
    ]
    if not clips:
        raise ClipsError(f"{archive}: no audio files in this zip file")
    return clips


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".")


def _manifest_clips(
    manifest: Path, split: str | None, group: str | None, language: str | None
) -> list[Clip]:
    rows = select_rows(manifest, read_rows(manifest), split=split, group=group, language=language)
    clips = [_row_clip(manifest.parent, row) for row in rows]
    missing = [clip.path for clip in clips if not clip.path.is_file()]
    if missing:
        raise ClipsError(
            f"{manifest}: {len(missing)} of {len(clips)} files are missing, "
            f"the first is {missing[0]}; paths are relative to it"
        )
    return clips


def _row_clip(folder: Path, row: Mapping[str, str]) -> Clip:
    return Clip(
        folder / row["path"],
        transcript=row.get("transcript") or None,
        split=row.get("split") or None,
        group=row.get("group") or None,
        speaker=row.get("speaker") or None,
        language=row.get("language") or None,
        fields=dict(row),
    )
