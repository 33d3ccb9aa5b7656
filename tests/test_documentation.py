"""What README and docs/ say can be typed: links lead somewhere, flags exist, settings are taken, Python compiles."""

import functools
import itertools
import re
import shlex
import subprocess
import sys
import tomllib
import xml.etree.ElementTree
from pathlib import Path

import pytest

from deeplab_tf.config import override
from deeplab_tf.experiments import EXPERIMENTS
from scripts import docs_site

ROOT = Path(__file__).resolve().parents[1]
LONGEST_LINE = 120
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
# Commands whose flags are not absl's, or that belong to others.
FOREIGN = ("pip", "pytest", "tf2onnx.convert", "venv", "http.server", "ruff", "mypy")
OPTIONAL = {"deeplab_tf.webapp": "starlette", "deeplab_tf.batch_predict": "apache_beam"}


def blocks(page, *languages):
    """The fenced code blocks of a page: (number of the first line, text)."""
    found, start, language = [], None, ""
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        fence = re.match(r"^\s*```(\w*)", line)
        if fence and start is None:
            start, language = number, fence.group(1)
        elif fence:
            if language in languages:
                found.append((start + 1, "\n".join(lines[start : number - 1])))
            start = None
    return found


def commands(page):
    """The commands that begin with python in the blocks of a page, each as one line."""
    for number, text in blocks(page, "", "bash", "sh", "console"):
        joined = re.sub(r"\\\n\s*", " ", text)
        for line in joined.splitlines():
            match = re.search(r"(?:^|\s)(?:\S*/)?python3? (.*)", line)
            if match and "=" not in line.split("python")[0].replace("PYTHON", ""):
                yield number, match.group(1)


@functools.cache
def known_flags(program):
    """The flags of --help."""
    arguments = ["-m", program] if not program.endswith(".py") else [program]
    shown = subprocess.run([sys.executable, *arguments, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, f"{program}: {shown.stderr[-500:]}"
    return frozenset(re.findall(r"--(?:\[no\])?([a-z]\w+)", shown.stdout))


def typed(page):
    """(line, program, its arguments) of each command of ours."""
    for number, text in commands(page):
        try:
            words = shlex.split(text.split(" #")[0].split(" | ")[0].split(" > ")[0], comments=True)
        except ValueError:  # a text of several lines
            continue
        program = words[1] if words[0] == "-m" and len(words) > 1 else words[0]
        if program in FOREIGN or program.startswith(("-", "/")) or "<" in program:
            continue
        yield number, program, words[2:] if words[0] == "-m" else words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_have_the_flags_that_they_are_given(page):
    for number, program, arguments in typed(page):
        if program.endswith(".py"):
            assert (ROOT / program).exists(), f"{page.name}:{number}: there is no {program}"
        if program in OPTIONAL or program.startswith(("benchmarks/torch", "scripts/s", "tests.", "benchmarks.")):
            continue
        if any(word.startswith("--runner") or word.startswith("--direct_") for word in arguments):
            continue  # Apache Beam's own flags follow
        given = [word[2:].split("=")[0].removeprefix("no") for word in arguments if word.startswith("--")]
        known = known_flags(program)
        for name in given:
            assert name in known or f"no{name}" in known, f"{page.name}:{number}: {program} has no --{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_settings_of_a_page_are_taken(page):
    config = EXPERIMENTS["resnet101_aspp_msc"]
    for setting in re.findall(r"--set=(?!section\.)([\w.]+=[\w.,-]*)", page.read_text(encoding="utf-8")):
        if not setting.partition("=")[2].isupper():  # NAME stands for any
            override(config, [setting.rstrip(".,")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_compiles(page):
    for number, text in blocks(page, "python", "py"):
        try:
            compile(text, f"{page.name}:{number}", "exec")
        except SyntaxError as error:
            pytest.fail(f"{page.name}:{number}: {error}")


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    found = set()
    for line in page.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"^#+ (.*)", line):
            text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", lambda match: match.group(1) or "", heading.group(1)).lower()
            found.add(re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page):
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page.name}: {target}"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place), f"{page.name}: {target} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_lines_of_a_page_are_short(page):
    tables = re.compile(r"^\s*(\||!?\[|<)")
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fenced ^= line.lstrip().startswith("```")
        if not fenced and not tables.match(line):
            assert len(line) <= LONGEST_LINE, f"{page.name}:{number} has {len(line)} characters"


def test_the_site_has_every_page_and_what_the_pages_link_to():
    navigation = re.findall(r"^ +- [^:]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    assert sorted(navigation) == sorted(page.as_posix() for page in docs_site.pages())
    linked = {path for page in docs_site.pages() for path in docs_site.linked_files(page)}
    assert {Path("docs/images/rooms.svg"), Path("LICENSE")} <= linked


def test_the_site_takes_nothing_from_elsewhere():
    settings = (ROOT / "mkdocs.yml").read_text()
    assert "font: false" in settings and "http:" not in settings and "https:" not in settings
    for page in docs_site.pages():
        shown = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", (ROOT / page).read_text(encoding="utf-8"))
        assert not [address for address in shown if ":" in address], page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lists_and_tables_begin_after_an_empty_line(page):
    """GitHub does not need the line, the site's Markdown does."""
    text = re.sub(r"```.*?```", "\n", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    item = re.compile(r"([-*]|\d+\.) ")
    for before, line in itertools.pairwise(text.splitlines()):
        if item.match(line):
            assert not before.strip() or item.match(before) or before.startswith(" "), f"{page.name}: {line}"
        if line.startswith("|"):
            assert not before.strip() or before.startswith("|"), f"{page.name}: {line}"


def test_the_badges_are_true():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    first, last = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups()
    tensorflow = re.search(r"^tensorflow>=([\d.]+),", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)
    said = {
        "python": "Python: " + " | ".join(f"3.{minor}" for minor in range(int(first), int(last))),
        "tensorflow": f"TensorFlow: {tensorflow.group(1)}",
        "licence": f"licence: {project['license']}",
    }
    for name, text in said.items():
        badge = xml.etree.ElementTree.parse(ROOT / "docs" / "images" / f"badge_{name}.svg").getroot()
        assert badge.get("aria-label") == text
        assert ": ".join(found.text for found in badge.iter("{http://www.w3.org/2000/svg}text")) == text


def test_the_dockerfiles_copy_what_is_there():
    for file in (ROOT / "docker").glob("*.Dockerfile"):
        copied = re.findall(r"^COPY ([^$].*) \S+$", file.read_text(), flags=re.MULTILINE)
        assert all((ROOT / name).exists() for line in copied for name in line.split()), file
        assert (file.parent / f"{file.name}.dockerignore").exists()
