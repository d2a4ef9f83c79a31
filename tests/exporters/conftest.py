"""Exports that several files test."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def toy_moonshine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Any]:
    """Source, model folder and result of a Moonshine with random weights, streaming or not."""
    from mqtool.exporters.pipeline import export_model
    from toy_moonshine import moonshine_folder

    @cache
    def exported(streaming: bool) -> tuple[Path, Path, Any]:
        folder = tmp_path_factory.mktemp("moonshine")
        source = moonshine_folder(folder / "source", streaming=streaming)
        return source, folder / "model", export_model(str(source), folder / "model")

    return exported
