"""What the pages say is there: files, links, commands, settings, queries, and the picture."""

from __future__ import annotations

import re
import shlex
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import click
import pytest

from kbsync import __version__
from kbsync.cli.main import cli
from kbsync.cli.state import State
from kbsync.settings import Settings, load_settings
from kbsync.store.engine import open_store
from kbsync.store.query import run_sql

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *ROOT.glob("data/*/README.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FOLDERS = ("kbsync", "config", "data", "deploy", "docs", "migrations", "requirements", "tests", "tools")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
# A path of this repository, wherever it stands: in prose, in a code span, in a block.
PATH = re.compile(rf"(?<![\w/.<>-])((?:{'|'.join(FOLDERS)})/(?:[A-Za-z_][\w./-]*)?[\w/])")
ROOT_FILE = re.compile(r"(?<![\w/.])([A-Z][A-Za-z]+\.md|Makefile|LICENSE|pyproject\.toml)(?![\w/])")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages."""
    return [body for language, body in FENCE.findall(text_of(name)) if language in languages]


def prose(name: str) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", text_of(name))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the usual renderers make them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> list[str]:
    """Links of a page to a file that is not there, or to a heading that its page does not have."""
    found = LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    broken = []
    for link in found:
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def missing_paths(text: str) -> list[str]:
    """Paths of this repository that a text names and that are not there."""
    named = [*PATH.findall(text), *ROOT_FILE.findall(text)]
    return sorted({path for path in named if not (ROOT / path).exists()})


def command_lines(block: str) -> Iterator[list[str]]:
    """The words of each `kbsync …` in a block of shell, without redirections, pipes and comments."""
    line = ""
    for part in block.splitlines():
        line = f"{line}\n{part}" if line else part
        try:
            words = words_of(line)
        except ValueError:  # a quotation that goes on in the next line
            continue
        line = ""
        if words and words[0] == "kbsync":
            yield words[1:]
    assert not line, f"a quotation without an end: {line}"


def words_of(line: str) -> list[str]:
    """The words of one shell command up to its first operator. Raises ValueError for an open quotation."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="><|;&")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word[0] in "><|;&":
            break
        if words or not re.fullmatch(r"[A-Z_]+=.*", word):  # a variable for this command only
            words.append(word)
    return words


def parse(words: list[str]) -> click.Context:
    """Parse a command line against the command tree, and run nothing. Raises click.ClickException."""
    ctx = cli.make_context("kbsync", list(words), obj=State())
    while isinstance(ctx.command, click.Group):
        name, command, rest = ctx.command.resolve_command(ctx, [*ctx._protected_args, *ctx.args])
        assert command is not None
        ctx = command.make_context(name, rest, parent=ctx)
    return ctx


def shown_commands() -> list[tuple[str, str]]:
    """(page, command line) of every command in a fenced block: what a user would type."""
    found = {(name, shlex.join(words)) for name in NAMES for b in blocks(name, "sh") for words in command_lines(b)}
    return sorted(found)


def named_commands() -> list[tuple[str, str]]:
    """(page, command line) of every code span that is a command, perhaps without its arguments."""
    spans = {(name, span) for name in NAMES for span in SPAN.findall(prose(name)) if span.startswith("kbsync ")}
    return sorted(
        (name, span.removeprefix("kbsync ")) for name, span in spans if not re.search(r"…|\b[A-Z]{4,}\b", span)
    )


def documented_queries() -> list[tuple[str, str]]:
    """(page, SQL) of every `kbsync sql` on the pages."""
    lines = [(name, shlex.split(line)) for name, line in shown_commands()]
    asked = [(name, parse(words)) for name, words in lines if "sql" in words[:3]]
    return [(name, ctx.params["query"]) for name, ctx in asked if ctx.params["query"] != "-"]


@pytest.mark.parametrize("name", NAMES)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    """Each link to a file of this repository has its file, and its heading where it names one."""
    assert broken_links(ROOT / name) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_path_that_a_page_names_is_there(name: str) -> None:
    """Each file and folder of this repository that a page names exists."""
    assert missing_paths(text_of(name)) == []


def test_a_wrong_link_and_a_wrong_path_are_found(tmp_path: Path) -> None:
    """The two tests above can fail: a link to nothing, to a missing heading, and a path that is not there."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A heading\n[a](#a-heading) [b](#other) [c](no.md) [d](page.md#a-heading) [e](https://x.org)\n"
    )
    assert broken_links(page) == ["#other", "no.md"]
    assert missing_paths("see docs/no.md, `kbsync/edit/`, (tests/none/), MISSING.md, x/docs/other.md") == [
        "MISSING.md",
        "docs/no.md",
        "tests/none/",
    ]


def test_pages_show_commands() -> None:
    """Commands are found on the pages, also with a quotation over several lines, so that the next tests parse
    some."""
    assert len(shown_commands()) >= 40
    assert len(named_commands()) >= 10
    block = '# kbsync no\nA=1 kbsync status --json > out.txt\nkbsync sql "SELECT 1\n  AS one" | less\necho kbsync\n'
    assert list(command_lines(block)) == [["status", "--json"], ["sql", "SELECT 1\n  AS one"]]


@pytest.mark.parametrize(("name", "line"), shown_commands())
def test_every_shown_command_parses(name: str, line: str) -> None:
    """Each command in a block exists, with the options and arguments that it is shown with."""
    try:
        parse(shlex.split(line))
    except click.ClickException as error:
        pytest.fail(f"{name}: kbsync {line}: {error.format_message()}")


@pytest.mark.parametrize(("name", "line"), named_commands())
def test_every_named_command_exists(name: str, line: str) -> None:
    """Each command that a sentence names exists with the options that it is named with; arguments may be left
    out."""
    try:
        parse(shlex.split(line))
    except (click.MissingParameter, click.exceptions.Exit):  # --help and --version exit
        return
    except click.ClickException as error:
        pytest.fail(f"{name}: kbsync {line}: {error.format_message()}")


@pytest.mark.parametrize(
    "line", ["no-such", "sync --no-such", "checkpoint rollback --to", "sql", "ask --tokens x y"]
)
def test_a_command_that_is_wrong_does_not_parse(line: str) -> None:
    """Parsing sees unknown commands, unknown options, and arguments that are missing or of the wrong kind."""
    with pytest.raises(click.ClickException):
        parse(shlex.split(line))


def test_every_documented_query_can_be_asked(tmp_path: Path) -> None:
    """Each `kbsync sql` on the pages names views and columns that an empty store has."""
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    open_store(url).close()
    queries = documented_queries()
    assert len(queries) >= 8
    for _, query in queries:
        assert run_sql(url, query).columns


@pytest.mark.parametrize("name", [name for name in NAMES if name != "docs/relations.md" and blocks(name, "toml")])
def test_every_documented_settings_file_loads(name: str, tmp_path: Path) -> None:
    """Each block of TOML on the pages is a settings file that kbsync takes."""
    for number, block in enumerate(blocks(name, "toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(block, encoding="utf-8")
        assert tomllib.loads(block)
        load_settings(path)


@pytest.mark.parametrize("name", NAMES)
def test_every_named_setting_exists(name: str) -> None:
    """Each `section.key` that a page names, and each variable of the environment, is a setting."""
    named = {tuple(span.split(".")) for span in SPAN.findall(prose(name)) if re.fullmatch(r"[a-z]+\.[a-z_]+", span)}
    named |= {(a.lower(), b.lower()) for a, b in re.findall(r"\bKBSYNC_([A-Z]+)__([A-Z_]+)", text_of(name))}
    for section, key in sorted(named):
        if section in Settings.model_fields:
            table = Settings.model_fields[section].annotation
            assert key in table.model_fields, f"{section}.{key}"  # type: ignore[union-attr]


def test_every_package_is_in_the_readmes_tree() -> None:
    """README's tree has each package of kbsync/ and each module at its root, and nothing that is not there."""
    tree = next(block for block in blocks("README.md", "") if block.startswith("kbsync/"))
    stack: list[str] = []
    named = set()
    for line in tree.splitlines():
        entry = line.split()[0]
        assert len(line.split()) > 1, f"{entry} has no explanation"
        depth = (len(line) - len(line.lstrip())) // 2
        stack = [*stack[:depth], entry.rstrip("/")]
        path = ROOT.joinpath(*stack)
        assert path.is_dir() if entry.endswith("/") else path.is_file(), entry
        named.add(path)
    there = {path for path in (ROOT / "kbsync").iterdir() if path.suffix == ".py" and path.stem != "__init__"}
    there |= {path.parent for path in (ROOT / "kbsync").rglob("__init__.py")}
    assert there - named == set()
    assert {ROOT / folder for folder in FOLDERS} - named == set()


def test_readme_names_both_commands_and_every_page() -> None:
    """README shows how to run and to test, and leads to each page of docs/."""
    text = text_of("README.md")
    assert {"make run", "make test"} <= {
        line.split("#")[0].strip() for line in blocks("README.md", "sh")[0].splitlines()
    }
    assert [page.name for page in ROOT.glob("docs/*.md") if f"(docs/{page.name}" not in text] == []


def test_changelog_has_this_version_on_top() -> None:
    """The newest release in the changelog is the program's version; the dates go back from there."""
    releases = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", text_of("CHANGELOG.md"), re.MULTILINE)
    assert releases[0][0] == __version__
    assert releases == sorted(releases, key=lambda one: one[1], reverse=True)


def test_editing_page_has_every_rule_of_the_gate() -> None:
    """docs/editing.md explains each threshold with the default that it has."""
    page = text_of("docs/editing.md")
    for name, default in Settings().gate.model_dump().items():
        row = re.search(rf"^\| `gate\.{name}` \|.*\|.* ([\d.]+) \|$", page, re.MULTILINE)
        assert row is not None, name
        assert float(row[1]) == default


def test_picture_stands_alone() -> None:
    """The picture is whole XML with a title, has colours for dark pages, and loads nothing from elsewhere."""
    text = text_of("docs/flow.svg")
    root = ET.fromstring(text)
    namespace = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{namespace}svg"
    assert root.findtext(f"{namespace}title")
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"@import|@font-face|href=|<script|<image|url\((?!#)", text)


def test_picture_shows_every_stage_in_order() -> None:
    """The picture's boxes are the stages of a sync, from left to right."""
    from kbsync.sync.stages import STAGES

    root = ET.fromstring(text_of("docs/flow.svg"))
    names = [(float(node.attrib["x"]), node.text) for node in root.iter() if node.get("class") == "name"]
    assert tuple(name for _, name in sorted(names) if name in STAGES) == STAGES
