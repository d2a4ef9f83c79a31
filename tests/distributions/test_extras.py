"""Packages that only some work needs, and what is said where they are not installed."""

import re
import sys
import tomllib

import pytest

from conftest import ROOT
from mqtool.cli.main import main
from mqtool.errors import MissingPackageError
from mqtool.extras import EXTRAS, require_extra
from tiny_graph import toy_folder, toy_manifest


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_what_is_looked_for(extra):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["optional-dependencies"][extra]
    assert set(EXTRAS[extra]) <= {re.split("[^a-z0-9-]", name)[0] for name in wanted}


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_package_is_missed(extra, monkeypatch):
    for package in EXTRAS[extra]:
        monkeypatch.setattr(
            "mqtool.extras.find_spec", lambda name, lacks=package: None if name == lacks else sys
        )
        with pytest.raises(MissingPackageError) as refused:
            require_extra(extra, "this")
        assert str(refused.value) == (
            f"this needs {package}; run: pip install 'mqtool[{extra}]' "
            f"(in a clone of mqtool: pip install '.[{extra}]')"
        )


@pytest.mark.parametrize("command", ["sweep", "matrix", "ablate"])
@pytest.mark.parametrize("package", EXTRAS["experiments"])
def test_experiments_say_what_to_install_before_any_work(
    command, package, tmp_path, capsys, monkeypatch
):
    model = toy_folder(tmp_path / "model", scale=3, separator=" ")
    manifest = toy_manifest(tmp_path / "clips", model, {"F": 0.1, "M": 0.3}, calib=1, dev=1)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("mqtool.extras.find_spec", lambda name: None if name == package else sys)
    opened = []
    monkeypatch.setattr("mqtool.model.folder.ModelFolder.open", opened.append)
    output = tmp_path / "report"
    with pytest.raises(SystemExit) as ended:
        main([command, str(model), "--manifest", str(manifest), "-o", str(output)])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert line.startswith(f"Error: {command} needs {package}; run: pip install 'mqtool[exper")
    assert "pip install '.[experiments]'" in line
    assert opened == []
    assert sorted(tmp_path.rglob("*")) == before
