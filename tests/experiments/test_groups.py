import csv
import shutil

import numpy as np
import pytest
import soundfile

from mqtool.errors import ClipsError
from mqtool.experiments.groups import ClipSet, check_disjoint, find_groups

ROWS = [
    ("f1", "calib", "F", ""),
    ("f2", "calib", "F", ""),
    ("f3", "dev", "F", "one"),
    ("m1", "calib", "M", ""),
    ("m2", "dev", "M", "two"),
    ("x1", "calib", "X", ""),
]


def write_manifest(folder, rows=ROWS, columns=("path", "split", "group", "transcript")):
    for number, (name, *_) in enumerate(rows):
        if not (folder / f"{name}.wav").exists():
            pcm = np.full(200, (number + 1) / 100, np.float32)
            soundfile.write(folder / f"{name}.wav", pcm, 16000, subtype="FLOAT")
    with (folder / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *((f"{n}.wav", *rest) for n, *rest in rows)])
    return folder / "m.csv"


def find(manifest, **options):
    return find_groups(manifest, **{"calib_split": "calib", "test_split": "dev", **options})


def names(group: ClipSet) -> list[str]:
    return [clip.path.stem for clip in group.clips]


def test_groups_with_rows_of_both_kinds_are_found(tmp_path):
    calib, test = find(write_manifest(tmp_path))
    assert {name: names(group) for name, group in calib.items()} == {
        "F": ["f1", "f2"],
        "M": ["m1"],
    }
    assert {name: names(group) for name, group in test.items()} == {"F": ["f3"], "M": ["m2"]}
    assert list(find(write_manifest(tmp_path), names=["M"])[0]) == ["M"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["Q"]}, r"no row with group 'Q' in split 'calib'; there is 'F', 'M', 'X'"),
        ({"names": ["X"]}, r"no row with group 'X' in split 'dev'; there is 'F', 'M'"),
        ({"calib_split": "train"}, r"no row with split 'train'; there is 'calib', 'dev'"),
        ({"test_split": "calib"}, r"split 'calib' for both calibration and test"),
        ({"by": "speaker"}, r"no column 'speaker' to group by; there is 'path', 'split'"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, options, message):
    with pytest.raises(ClipsError, match=message):
        find(write_manifest(tmp_path), **options)


def test_groups_that_never_meet(tmp_path):
    rows = [row for row in ROWS if row[0] not in ("f3", "m1")]
    with pytest.raises(ClipsError, match="no group has rows of both splits 'calib' and 'dev'"):
        find(write_manifest(tmp_path, rows))


def test_a_test_clip_needs_a_transcript(tmp_path):
    rows = [*ROWS, ("m3", "dev", "M", "")]
    with pytest.raises(ClipsError, match=r"m3\.wav: has no transcript; rows of split 'dev'"):
        find(write_manifest(tmp_path, rows))


def test_the_same_recording_on_both_sides_is_refused_whatever_its_name(tmp_path):
    manifest = write_manifest(tmp_path)
    calib, test = find(manifest)
    check_disjoint(list(calib.values()), list(test.values()))
    shutil.copy(tmp_path / "f1.wav", tmp_path / "m2.wav")
    calib, test = find(manifest)
    with pytest.raises(ClipsError, match=r"m2\.wav: is the same recording as .*f1\.wav"):
        check_disjoint(list(calib.values()), list(test.values()))


def test_identity_is_what_is_heard_and_said(tmp_path):
    manifest = write_manifest(tmp_path)
    before = find(manifest)[1]["F"].sha256
    (tmp_path / "moved").mkdir()
    for path in tmp_path.glob("*.*"):
        shutil.copy(path, tmp_path / "moved")
    assert find(tmp_path / "moved" / "m.csv")[1]["F"].sha256 == before
    write_manifest(tmp_path, [(n, s, g, t.replace("one", "won")) for n, s, g, t in ROWS])
    assert find(manifest)[1]["F"].sha256 != before


def test_drawn_subsets_are_random_and_repeatable(tmp_path):
    rows = [(f"f{i}", "calib", "F", "") for i in range(12)] + [("t", "dev", "F", "one")]
    group = find(write_manifest(tmp_path, rows))[0]["F"]
    drawn = [names(group.drawn(4, seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 4
    assert drawn[0] == [name for name in names(group) if name in drawn[0]]
    assert names(group.first(3)) == ["f0", "f1", "f2"]
    assert group.drawn(12, 5).sha256 == group.sha256
    with pytest.raises(ClipsError, match="group 'F': 13 calibration clips wanted, 12 found"):
        group.drawn(13, 0)
