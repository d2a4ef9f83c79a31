"""One version everywhere, and the same licence in both distributions."""

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import mqruntime
import mqtool

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "android_demo"
MAVEN = "{http://maven.apache.org/POM/4.0.0}"


def _project(folder: Path) -> dict:
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def test_every_copy_of_the_version_is_the_same():
    (kotlin,) = re.findall(
        r'^const val VERSION = "(.+)"$',
        (DEMO / "core/src/main/kotlin/mqruntime/Version.kt").read_text(),
        re.MULTILINE,
    )
    pom = ElementTree.parse(DEMO / "pom.xml").getroot()
    versions = {
        "pyproject.toml": _project(ROOT)["version"],
        "mqtool.__version__": mqtool.__version__,
        "mqruntime.__version__": mqruntime.__version__,
        "Version.kt": kotlin,
        "android_demo/pom.xml": pom.findtext(f"{MAVEN}properties/{MAVEN}revision"),
    }
    assert set(versions.values()) == {mqruntime.__version__}, versions


def test_no_other_file_of_a_build_holds_a_version_of_its_own():
    runtime = tomllib.loads((ROOT / "runtime_py" / "pyproject.toml").read_text())
    assert "version" not in runtime["project"]
    assert runtime["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "mqruntime.__version__"}
    poms = [DEMO / "pom.xml", DEMO / "core" / "pom.xml", DEMO / "app" / "pom.xml"]
    own = [ElementTree.parse(path).getroot().find(f"{MAVEN}version") for path in poms]
    parents = [
        ElementTree.parse(path).getroot().find(f"{MAVEN}parent/{MAVEN}version") for path in poms
    ]
    found = [element.text for element in [*own, *parents] if element is not None]
    assert found == ["${revision}"] * 3
    gradle = (DEMO / "app" / "build.gradle.kts").read_text()
    assert 'versionName = property("revision").toString()' in gradle


def test_the_licence_is_the_same_in_both():
    assert (ROOT / "runtime_py" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert _project(ROOT)["license"] == _project(ROOT / "runtime_py")["license"] == "Apache-2.0"
