"""Groups of recordings to calibrate and to test on: the two halves of every experiment."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from mqtool.errors import ClipsError
from mqtool.experiments.cache import fingerprint
from mqtool.recordings.clips import CALIBRATION_LIMIT, Clip, find_clips

__all__ = ["ClipSet", "check_disjoint", "find_groups"]


@dataclass(frozen=True)
class ClipSet:
    """Some recordings under a name, read when asked for."""

    name: str
    clips: tuple[Clip, ...]

    @cached_property
    def digests(self) -> list[str]:
        """SHA-256 of each clip's samples."""
        return [
            hashlib.sha256(clip.pcm().astype("<f4", copy=False).tobytes()).hexdigest()
            for clip in self.clips
        ]

    @cached_property
    def sha256(self) -> str:
        """Identity of all that counts: samples, languages and transcripts, in order."""
        said = [[clip.language, clip.transcript] for clip in self.clips]
        return fingerprint([self.digests, said])

    def first(self, count: int | None) -> "ClipSet":
        """The first clips, all for None."""
        return replace(self, clips=self.clips[:count])

    def drawn(self, count: int, seed: int) -> "ClipSet":
        """A random subset in the order of the whole; the same seed draws the same one.

        Raises:
            ClipsError: there are not so many.
        """
        if count > len(self.clips):
            raise ClipsError(
                f"group {self.name!r}: {count} calibration clips wanted, {len(self.clips)} found"
            )
        chosen = np.random.default_rng(seed).choice(len(self.clips), count, replace=False)
        return replace(self, clips=tuple(self.clips[index] for index in sorted(chosen)))


def find_groups(
    manifest: Path,
    *,
    calib_split: str,
    test_split: str,
    by: str = "group",
    names: Sequence[str] = (),
) -> tuple[dict[str, ClipSet], dict[str, ClipSet]]:
    """Calibration and test recordings of each group of a manifest.

    Args:
        manifest: CSV with the columns path, split, transcript and the one named by `by`.
        calib_split: value of `split` of rows to calibrate on.
        test_split: value of `split` of rows to test on; these need transcripts.
        by: column that tells the groups apart.
        names: the groups to use; all that have rows of both kinds if empty.

    Raises:
        ClipsError: the manifest is malformed, a split is empty, a group is unknown or lacks rows
            of a kind, a test clip has no transcript, or a clip is on both sides.
        AudioError: a clip cannot be read, or one to calibrate on is too long.
    """
    if calib_split == test_split:
        raise ClipsError(
            f"{manifest}: split {calib_split!r} for both calibration and test; the figures would "
            f"say nothing about other recordings, choose two splits"
        )
    calib = _grouped(
        find_clips([manifest], split=calib_split, longest=CALIBRATION_LIMIT), manifest, by
    )
    test = _grouped(find_clips([manifest], split=test_split), manifest, by)
    chosen = list(names) or sorted(calib.keys() & test.keys())
    if not chosen:
        raise ClipsError(
            f"{manifest}: no {by} has rows of both splits {calib_split!r} and {test_split!r}"
        )
    for name in chosen:
        for split, groups in ((calib_split, calib), (test_split, test)):
            if name not in groups:
                there = ", ".join(map(repr, sorted(groups)[:12]))
                raise ClipsError(
                    f"{manifest}: no row with {by} {name!r} in split {split!r}; there is {there}"
                )
    for name in chosen:
        for clip in test[name].clips:
            if not clip.transcript:
                raise ClipsError(
                    f"{clip.path}: has no transcript; rows of split {test_split!r} need one"
                )
    return {name: calib[name] for name in chosen}, {name: test[name] for name in chosen}


def check_disjoint(calib: Sequence[ClipSet], test: Sequence[ClipSet]) -> None:
    """Refuse recordings that are used for calibration and for testing, whatever their names.

    Raises:
        ClipsError: naming the first one.
    """
    known = {
        digest: clip
        for group in calib
        for digest, clip in zip(group.digests, group.clips, strict=True)
    }
    for group in test:
        for digest, clip in zip(group.digests, group.clips, strict=True):
            if digest in known:
                raise ClipsError(
                    f"{clip.path}: is the same recording as {known[digest].path}, which is used "
                    f"for calibration; take it out of one of the splits"
                )


def _grouped(clips: Sequence[Clip], manifest: Path, by: str) -> dict[str, ClipSet]:
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        if by not in clip.fields:
            columns = ", ".join(map(repr, clip.fields))
            raise ClipsError(f"{manifest}: no column {by!r} to group by; there is {columns}")
        if clip.fields[by]:
            groups.setdefault(clip.fields[by], []).append(clip)
    return {name: ClipSet(name, tuple(members)) for name, members in groups.items()}
