"""Which environments a change may touch: those whose rendered program may differ between a commit and the working tree.

Decided by files alone, and in doubt for all: what is not known to concern one environment or none concerns every one.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import yaml

import stacks
from infra import git, paths
from infra.errors import BadInput

_PROGRAM = ("charts", "components", "infra", "pipelines", "stacks")
"""Where a file that git does not know yet is part of the program, and not something that a job or a user has left."""
_MODELS = "stacks/models.yaml"
_OWN = re.compile(r"stacks/(?:Pulumi\.(?P<config>[^/]+)\.yaml|(?P<data>[^_/][^/]*)\.py)")
_NO_ONES = re.compile(r"(docs|tests|releases|\.github)/.*|stacks/(ladder\.yaml|signers)|README\.md|LICENSE|\.gitignore")


def items(ref: str) -> list[dict[str, Any]]:
    """The environments that differ from the commit, why, and whether it lacks them, so that a rehearsal is `--first`.

    Raises BadInput for a ref that is no commit, CouldNotRun where there is no git or no repository.
    """
    commit = _commit(ref)
    names = stacks.names()
    tracked = _git("diff", "--name-only", "--no-renames", "-z", commit, "--")
    untracked = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *_PROGRAM)
    changed = sorted({path for path in f"{tracked}{untracked}".split("\0") if path})
    there = _git("ls-tree", "--name-only", "-z", commit, "stacks/").split("\0")
    before = _git("show", f"{commit}:{_MODELS}") if _MODELS in there else ""
    file = paths.ROOT / _MODELS
    models = sections(before, file.read_text() if file.exists() else "", names)
    return [
        {
            "environment": name,
            "first": f"stacks/{name}.py" not in there,
            "files": len(because),
            "because": because[0],
        }
        for name, because in touched(changed, names, models).items()
    ]


def touched(changed: Iterable[str], names: Iterable[str], models: Collection[str]) -> Mapping[str, list[str]]:
    """Each environment that is touched, with the changed files that touch it.

    models: the environments whose section of stacks/models.yaml differs. An environment that is no longer there is not
    named: there is nothing to rehearse.
    """
    found = {name: [path for path in changed if _touches(path, name, models)] for name in names}
    return {name: because for name, because in found.items() if because}


def _touches(path: str, name: str, models: Collection[str]) -> bool:
    if path == _MODELS:
        return name in models
    if own := _OWN.fullmatch(path):
        return name in own.groups()
    return not _NO_ONES.fullmatch(path)


def sections(before: str, after: str, names: Iterable[str]) -> set[str]:
    """The environments whose section differs between two texts of stacks/models.yaml; all where one is none."""
    try:
        texts = [yaml.safe_load(text) or {} for text in (before, after)]
    except yaml.YAMLError:
        return set(names)
    if not all(isinstance(text, dict) for text in texts):
        return set(names)
    return {name for name in names if texts[0].get(name) != texts[1].get(name)}


def _commit(ref: str) -> str:
    try:
        return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").strip()
    except git.Failed:
        raise BadInput(
            f"--touched {ref}: no commit of this repository; accepted: a tag, a branch or a commit"
        ) from None


def _git(*words: str) -> str:
    return git.output(paths.ROOT, *words)
