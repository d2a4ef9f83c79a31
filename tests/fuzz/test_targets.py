"""Readers of strangers' files, fed with damaged ones from a fixed seed (longer: `make fuzz`)."""

import random

import pytest

from fuzz.mutate import mutated
from fuzz.targets import described, targets

NAMES = [
    "wav",
    "bundle",
    "manifest",
    "plan",
    "ctranslate2",
    "zip",
    "onnx",
    "vocabulary",
    "csv",
    "coded",
]


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return targets(tmp_path_factory.mktemp("seeds"))


def test_all_are_here(known):
    assert list(known) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_read(known, tmp_path, name):
    assert known[name].seeds
    for seed in known[name].seeds:
        known[name].read(seed, tmp_path / "input")


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_damaged_files_end_in_one_line_or_are_read(known, tmp_path, name, portion):
    target, rng, refused = known[name], random.Random(1), 0
    for number in range(portion(4000)):
        content = mutated(target.seeds, rng)
        try:
            target.read(content, tmp_path / "input")
        except target.errors:
            refused += 1
        except Exception as error:
            error.add_note(f"input {number}: {described(content)}")
            raise
    assert refused > portion(4000) / 4
