"""What of the Android demo can be checked without Java: one place for versions, and privacy."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

DEMO = Path(__file__).resolve().parent.parent / "android_demo"
ANDROID = "{http://schemas.android.com/apk/res/android}"
TOOLS = "{http://schemas.android.com/tools}"
POM = {
    element.tag.split("}")[-1]: element.text
    for element in ElementTree.parse(DEMO / "pom.xml").iter()
}


def test_gradle_builds_with_the_versions_of_maven():
    gradle = (DEMO / "build.gradle.kts").read_text()
    assert set(re.findall(r'kotlin\("\w+"\) version "([^"]+)"', gradle)) == {POM["kotlin.version"]}
    names = set()
    for module in ("core", "app"):
        names |= set(
            re.findall(r'property\("([^"]+)"\)', (DEMO / module / "build.gradle.kts").read_text())
        )
    assert {"onnxruntime.version", "gson.version", "min.sdk", "target.sdk"} <= names <= POM.keys()


def test_onnxruntime_is_a_version_without_telemetry():
    assert re.fullmatch(r"1\.2[78]\.\d+", POM["onnxruntime.version"])


def test_the_microphone_is_the_only_permission_and_there_are_no_backups():
    manifest = ElementTree.parse(DEMO / "app" / "src" / "main" / "AndroidManifest.xml").getroot()
    kept = [e for e in manifest.iter("uses-permission") if e.get(f"{TOOLS}node") != "remove"]
    assert [e.get(f"{ANDROID}name") for e in kept] == ["android.permission.RECORD_AUDIO"]
    removed = {e.get(f"{ANDROID}name") for e in manifest.iter("uses-permission")} - {
        e.get(f"{ANDROID}name") for e in kept
    }
    assert "android.permission.INTERNET" in removed  # also if a library asks for it
    (application,) = manifest.iter("application")
    assert application.get(f"{ANDROID}allowBackup") == "false"
    assert not [*manifest.iter("provider"), *manifest.iter("service"), *manifest.iter("receiver")]


@pytest.mark.parametrize("name", ["backup_rules", "data_extraction_rules"])
def test_backup_rules_exclude_everything(name):
    rules = ElementTree.parse(
        DEMO / "app" / "src" / "main" / "res" / "xml" / f"{name}.xml"
    ).getroot()
    groups = [rules] if name == "backup_rules" else list(rules)
    assert groups
    for group in groups:
        assert {e.get("domain") for e in group} == {
            "root",
            "file",
            "external",
            "sharedpref",
            "database",
        }
        assert {(e.tag, e.get("path")) for e in group} == {("exclude", ".")}
