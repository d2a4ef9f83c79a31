"""Files of the repository that pages link to become part of the site.

Pages link to them by relative paths that lead out of docs/, so that the same links work where the
repository is browsed. Here they move to repository/, Markdown as pages, and so does whatever these
link to. mkdocs then checks every link as it checks its own.
"""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

__all__ = ["on_files", "on_page_markdown"]

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "repository"
_LINK = re.compile(r"(?P<before>\]\(|<img src=\")(?P<target>[^)\s\"#]+)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to, and what that links to."""
    docs = Path(config.docs_dir)
    seen: set[Path] = set()
    waiting = [docs / file.src_uri for file in files.documentation_pages()]
    while waiting:
        page = waiting.pop()
        for target in _targets(page):
            if target in seen or target.is_relative_to(docs) or not target.is_relative_to(ROOT):
                continue
            seen.add(target)
            files.append(File.generated(config, _address(target), abs_src_path=str(target)))
            if target.suffix == ".md":
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to where the files are in the site."""
    docs, source = Path(config.docs_dir), Path(page.file.abs_src_path or "")

    def moved(match: re.Match[str]) -> str:
        target = (source.parent / match["target"]).resolve()
        if "://" in match["target"] or not target.is_file() or not target.is_relative_to(ROOT):
            return match[0]
        inside = target.is_relative_to(docs)
        address = target.relative_to(docs).as_posix() if inside else _address(target)
        return match["before"] + os.path.relpath(address, Path(page.file.src_uri).parent)

    return "".join(
        part if part.startswith("```") else _LINK.sub(moved, part)
        for part in re.split(f"({_FENCE.pattern})", markdown, flags=_FENCE.flags)
    )


def _targets(page: Path) -> list[Path]:
    """Files that a page links to."""
    found = _LINK.finditer(_FENCE.sub("", page.read_text(encoding="utf-8")))
    targets = [(page.parent / match["target"]).resolve() for match in found]
    return [target for target in targets if target.is_file()]


def _address(target: Path) -> str:
    return f"{FOLDER}/{target.relative_to(ROOT).as_posix()}"
