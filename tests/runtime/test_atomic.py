"""Whatever ends a process, its output is the old or the new one, and the next one clears up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mqruntime import atomic

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks by flock")


def killed_while(code: str, folder: Path) -> None:
    """Run code that has `atomic` and `folder`, in a process that is killed at its end."""
    lines = f"""
import os, signal
from pathlib import Path
from mqruntime import atomic
folder = Path({str(folder)!r})
{code}
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", lines], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_goes_and_what_is_being_made_stays(tmp_path, kind):
    killed_while(
        f"kept = atomic.temporary_{kind}(folder / 'out'); path = kept.__enter__()\n"
        f"if path.is_dir(): (path / 'model.onnx').write_text('half')",
        tmp_path,
    )
    (left,) = tmp_path.iterdir()
    (tmp_path / ".out.12345678.part").write_text("somebody else's")
    with getattr(atomic, f"temporary_{kind}")(tmp_path / "other") as mine:
        assert not left.exists()
        atomic.sweep(tmp_path)
        assert mine.exists()
    assert names(tmp_path) == [".out.12345678.part"]


def test_scratch_folders_of_killed_processes_go(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    killed_while(
        "kept = atomic.scratch_folder(); path = kept.__enter__(); (path / 'a').touch()", tmp_path
    )
    assert len(names(tmp_path)) == 1
    with atomic.scratch_folder() as mine:
        assert mine.stat().st_mode & 0o777 == 0o700
        assert names(tmp_path) == [mine.name]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_replaced(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    for content in ("old", "new"):
        with atomic.temporary_folder(tmp_path / "out") as made:
            (made / "file").write_text(content)
            atomic.replace_folder(made, tmp_path / "out")
    assert (tmp_path / "out" / "file").read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_without_an_exchange_the_old_folder_comes_back(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("old")
    killed_while(
        """
atomic._exchange = lambda one, other: False
kept = atomic.temporary_folder(folder / "out")
made = kept.__enter__()
Path.rename_once = Path.rename
def rename(path, target):
    Path.rename_once(path, target)
    os.kill(os.getpid(), signal.SIGKILL)  # between the two steps
Path.rename = rename
atomic.replace_folder(made, folder / "out")
""",
        tmp_path,
    )
    assert "out" not in names(tmp_path)
    atomic.sweep(tmp_path)
    assert (tmp_path / "out" / "file").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_of_two_processes_that_write_at_once_one_is_whole(tmp_path):
    code = f"""
from pathlib import Path
from mqruntime import atomic
out = Path({str(tmp_path)!r}) / "out"
for _ in range(200):
    with atomic.temporary_folder(out) as made:
        for name in "abc":
            (made / name).write_text("{{}}")
        atomic.replace_folder(made, out)
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", code.replace("{}", word)])
        for word in ("one", "two")
    ]
    looks = 0
    while any(writer.poll() is None for writer in writers):
        try:
            folder = os.open(tmp_path / "out", os.O_RDONLY)
        except FileNotFoundError:
            assert not looks
            continue
        looks += 1
        os.close(folder)
    assert looks
    assert [writer.returncode for writer in writers] == [0, 0]
    assert len({(tmp_path / "out" / name).read_text() for name in "abc"}) == 1
    assert names(tmp_path) == ["out"]


def test_nothing_of_another_kind_is_swept(tmp_path):
    kept = [".x.mqtool-part", "x.12345678.mqtool-part", ".x.1234567g.mqtool-part", ".x.12345678"]
    for name in kept:
        (tmp_path / name).touch()
    (tmp_path / ".y.12345678.mqtool-part").symlink_to(tmp_path / kept[0])
    (tmp_path / ".x.12345678.mqtool-part").touch()
    atomic.sweep(tmp_path)
    assert names(tmp_path) == sorted([*kept, ".y.12345678.mqtool-part"])
