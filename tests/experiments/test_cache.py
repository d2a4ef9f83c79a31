import json

import pytest

from mqtool.errors import MqError
from mqtool.experiments.cache import Cache, fingerprint

KEY = {"what": "score", "model": "abc", "budget": 7}
VALUE = {"rows": [[1, "text", None, 0.25]]}


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def entry_of(cache):
    (path,) = (path for path in cache.folder.iterdir() if path.name != "contents.json")
    return path


def test_values_come_back_whatever_the_order_of_the_key(cache):
    assert cache.get(KEY) is None
    cache.put(KEY, VALUE)
    assert cache.get(dict(reversed(KEY.items()))) == VALUE
    assert Cache(cache.folder).get(KEY) == VALUE
    assert cache.get({**KEY, "budget": 8}) is None
    assert cache.damaged == 0


def test_equal_entries_are_equal_files(cache, tmp_path):
    cache.put(KEY, VALUE)
    other = Cache(tmp_path / "other")
    other.put(dict(reversed(KEY.items())), VALUE)
    assert entry_of(cache).name == entry_of(other).name
    assert entry_of(cache).read_bytes() == entry_of(other).read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: text[: len(text) // 2],
        lambda text: b"\xff\xfe" + text,
        lambda text: b"[]",
        lambda text: text.replace(b'"text"', b'"test"'),
        lambda text: text.replace(b'"budget":7', b'"budget":8'),
        lambda text: json.dumps({**json.loads(text), "sha256": fingerprint(1)}).encode(),
    ],
)
def test_a_damaged_entry_is_not_used_and_can_be_replaced(cache, damage):
    cache.put(KEY, VALUE)
    path = entry_of(cache)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get(KEY) is None
    assert cache.damaged == 1
    cache.put(KEY, VALUE)
    assert cache.get(KEY) == VALUE


def test_a_file_is_no_cache(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MqError, match="file: is a file; give a folder"):
        Cache(tmp_path / "file")


def test_a_folder_of_something_else_is_no_cache(tmp_path):
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(MqError, match="is not a cache"):
        Cache(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.json"]
