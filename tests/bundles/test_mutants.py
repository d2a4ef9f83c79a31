"""A changed bundle is refused, or hears what the unchanged one hears; nothing else ever happens."""

import gzip
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from unittest import mock

import pytest

from mqruntime.bundle.file import Bundle
from mqruntime.errors import BundleError, ModelError
from mqruntime.recognition import Recognizer
from mutants import (
    TEXT,
    VECTORS,
    coded_mutants,
    crafted_mutants,
    overwrite,
    random_mutants,
    verdict,
)
from signed_bundle import Original, original, rebuilt


@pytest.fixture(scope="module", params=["plain", "coded"])
def good(request, tmp_path_factory) -> Original:
    return original(tmp_path_factory.mktemp("mutants"), coded=request.param == "coded")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Original:
    return original(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def coded(tmp_path_factory) -> Original:
    return original(tmp_path_factory.mktemp("coded"), coded=True)


def test_the_unchanged_bundle_is_heard_with_and_without_key(good):
    assert verdict(good.folder / "good.mqz") == TEXT
    assert verdict(good.folder / "good.mqz", good.public_key) == TEXT


def test_rebuilding_without_changes_gives_the_same_bytes(good):
    assert rebuilt(good) == good.content


def processor_seconds(path: Path) -> tuple[str, float]:
    """The verdict on a bundle, and the processor time that it took."""
    start = time.process_time()
    heard = verdict(path)
    return heard, time.process_time() - start


@pytest.mark.soak
def test_random_mutants(good: Original, tmp_path: Path, portion: Callable[[int], int]):
    """Ten thousand cases of damage and edits of each form, none of which takes long.

    With the key, whatever was edited after signing is refused.
    """
    unchanged = median(processor_seconds(good.folder / "good.mqz")[1] for _ in range(9))
    path = tmp_path / "mutant.mqz"
    counted: Counter[str] = Counter()
    slowest = 0.0
    for mutant in random_mutants(good, portion(10_000), seed=0):
        overwrite(path, mutant.content)
        heard, seconds = processor_seconds(path)
        slowest = max(slowest, seconds)
        assert heard in ("refused", TEXT), mutant.what
        if heard == TEXT and mutant.content != good.content:
            # What may pass: a value of the manifest that running does not need.
            assert mutant.what.startswith("edited_manifest"), mutant.what
            assert verdict(path, good.public_key) == "refused", mutant.what
        counted[heard] += 1
    assert slowest < 50 * unchanged
    assert counted["refused"] > portion(9000)
    assert [file.name for file in tmp_path.iterdir()] == ["mutant.mqz"]


@pytest.mark.parametrize("saturating", [False, True])
def test_mutants_of_coded_weights_are_refused(coded, tmp_path, saturating):
    path = tmp_path / "mutant.mqz"
    with mock.patch("mqruntime.engine.session.products_saturate", return_value=saturating):
        for mutant in coded_mutants(coded):
            overwrite(path, mutant.content)
            for key in (None, coded.public_key):
                assert verdict(path, key) == "refused", mutant.what
    assert [file.name for file in tmp_path.iterdir()] == ["mutant.mqz"]


def test_crafted_mutants_are_refused(plain, tmp_path):
    path = tmp_path / "mutant.mqz"
    count = 0
    for mutant in crafted_mutants(plain):
        overwrite(path, mutant.content)
        expected = TEXT if mutant.passes else "refused"
        assert verdict(path) == expected, mutant.what
        assert verdict(path, plain.public_key) == "refused", mutant.what
        count += 1
    assert count > 50
    assert [file.name for file in tmp_path.iterdir()] == ["mutant.mqz"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("an entry named '../outside'", "an entry is named '../outside'"),
        ("an entry named 'MODEL.ONNX'", "is there twice"),
        ("a vocabulary of 32 MB", "more than"),
        ("a graph with data in '../outside'", "which is not its own file"),
        ("model.json with an unknown field", r"model\.run is not a known field"),
        ("zipped by another tool, deflated", "not as mqtool writes it"),
        ("another zip behind it", "overlaps|after its end"),
        ("a manifest with a key twice", "'format' is given twice"),
        ("a manifest with spaces", "it is not spelled as mqtool writes it"),
        ("a manifest with 2**63", "'9223372036854775808' is too large an integer"),
        ("a manifest with 65 levels", "nested more than 64 deep"),
        ("model.json with a blank of 2**31", "ctc names the token 2147483648"),
    ],
)
def test_refusals_say_why(plain, tmp_path, what, message):
    mutant = next(mutant for mutant in crafted_mutants(plain) if mutant.what == what)
    (tmp_path / "mutant.mqz").write_bytes(mutant.content)
    with pytest.raises(ModelError, match=message):
        Recognizer.open(tmp_path / "mutant.mqz")


def test_missing_file_and_folder_are_refused_in_one_line(tmp_path):
    with pytest.raises(BundleError, match="No such file"):
        Bundle.open(tmp_path / "absent.mqz")
    with pytest.raises(BundleError, match="Is a directory"):
        Bundle.open(tmp_path)


def test_committed_vectors_have_the_verdicts_of_this_reader(tmp_path, plain):
    """`python tests/mutants.py` writes them again after a change of the format."""
    vectors = json.loads(gzip.decompress(VECTORS.read_bytes()))
    assert bytes.fromhex(vectors["public_key"]) == plain.public_key.read_bytes()
    assert {row["verdict"] for row in vectors["mutants"]} == {"text", "refused"}
    for row in vectors["mutants"]:
        path = tmp_path / "mutant.mqz"
        overwrite(path, bytes.fromhex(row["bundle"]))
        for name, key in (("verdict", None), ("verdict_with_key", plain.public_key)):
            expected = vectors["text"] if row[name] == "text" else "refused"
            assert verdict(path, key) == expected, row["what"]
