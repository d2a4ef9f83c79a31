import pytest

from mqtool.errors import ModelError
from mqtool.model.folder import ModelFolder
from mqtool.model.graph_files import load_graph, save_graph
from tiny_graph import toy_folder, toy_graph


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in ("a.onnx", "b.onnx"):
        save_graph(toy_graph(), tmp_path / name, external=False)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x00" * 100])
def test_a_file_that_is_no_graph_is_named(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx"):
        load_graph(path)


def test_truncated_graph_is_refused(tmp_path):
    save_graph(toy_graph(), tmp_path / "model.onnx", external=False)
    whole = (tmp_path / "model.onnx").read_bytes()
    for length in range(1, len(whole), 997):
        (tmp_path / "model.onnx").write_bytes(whole[:length])
        with pytest.raises(ModelError):
            load_graph(tmp_path / "model.onnx")


def test_truncated_external_data_is_refused(tmp_path):
    save_graph(toy_graph(scale=4), tmp_path / "model.onnx", external=True)
    data = tmp_path / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ModelError, match="truncated"):
        load_graph(tmp_path / "model.onnx")


def test_hash_covers_every_file(tmp_path):
    hashes = set()
    for seed, name in enumerate(("one", "two")):
        hashes.add(ModelFolder.open(toy_folder(tmp_path / name, seed=seed)).sha256)
    folder = toy_folder(tmp_path / "three")
    (folder / "vocabulary.json.gz").write_bytes(b"other")
    hashes.add(ModelFolder.open(folder).sha256)
    assert len(hashes) == 3
    assert ModelFolder.open(toy_folder(tmp_path / "again")).sha256 in hashes
