"""Builds the documentation site from the same Markdown that GitHub shows; a hook of mkdocs.yml, used by `make docs`.

The pages keep their places in the repository, so that a relative link leads to the same file on GitHub and on the site.
Files that a page links to, such as a picture, a list or a source file, are copied beside it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def pages() -> list[Path]:
    """Returns the Markdown files of the site, relative to the repository."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "THIRD_PARTY.md")]
    found += [*ROOT.glob("docs/*.md"), *ROOT.glob("models/*/README.md")]
    return sorted(path.relative_to(ROOT) for path in found)


def linked_files(page: Path) -> list[Path]:
    """Returns what a page links to or shows beside other pages, relative to the repository; text in code is not a link.

    Raises:
        FileNotFoundError: a link leads nowhere.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    found = []
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", prose):
        if re.match(r"[a-z]+:", target) or target.endswith(".md"):
            continue
        path = ((ROOT / page).parent / target).resolve()
        if not path.is_file():
            raise FileNotFoundError(f"{page}: {target} is not a file of the repository")
        found.append(path.relative_to(ROOT))
    return found


def on_files(files: Any, config: Any) -> Any:
    """Replaces the files of docs/ by the pages and what they link to, at their places in the repository (mkdocs)."""
    from mkdocs.structure.files import File

    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    wanted = {path for page in pages() for path in (page, *linked_files(page))}
    for path in sorted(wanted):
        files.append(File.generated(config, path.as_posix(), abs_src_path=str(ROOT / path)))
    return files
