"""What the documents say can be typed, and where their links lead."""

import re
import shlex
from pathlib import Path

import click
import pytest

from infra.cli import main
from tests.checkout import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SHELL = re.compile(r"^\s*```sh[^\n]*\n(.*?)^\s*```$", re.MULTILINE | re.DOTALL)
KIBAN = re.compile(r"\./kiban( [^\n|&;<>)]*)?")
"""A command, up to what the shell does with it."""
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def commands(page: Path) -> list[list[str]]:
    """The words of each `./kiban` in a page's blocks of commands."""
    text = "".join(SHELL.findall(page.read_text())).replace("\\\n", " ")
    return [shlex.split(found[1] or "", comments=True) for found in KIBAN.finditer(text)]


def parse(words: list[str]) -> None:
    """Have click take the words for a verb of the command line, without running it; raises what it has to say."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        verb, *words = words
        found = command.commands.get(verb)
        if found is None:
            raise click.UsageError(f"no verb {verb!r} of {command.name}")
        command = found
    command.make_context("kiban", words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_one(page: Path) -> None:
    """Its verb and its options are there, and none is missing; what it does is for other tests."""
    for words in commands(page):
        try:
            parse(words)
        except click.exceptions.Exit:  # --help
            continue
        except click.ClickException as error:
            pytest.fail(f"./kiban {shlex.join(words)}: {error.format_message()}")


def anchor(heading: str) -> str:
    """What a heading is called in a link, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file or folder that is there, and to a heading that it has."""
    for path, part in LINK.findall(re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if part and target.suffix == ".md":
            assert part in {anchor(found) for found in HEADING.findall(target.read_text())}, f"{path}#{part}"
