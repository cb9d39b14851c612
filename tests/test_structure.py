"""The house rules that a reader relies on, read from the sources themselves."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("infra", "stacks", "components")
SOURCES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    """The program imports stacks and components, stacks import components, and no arrow goes back."""
    layer = LAYERS.index(path.relative_to(ROOT).parts[0])
    assert not imported(path) & set(LAYERS[:layer])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_knows_an_environment_by_name(path: Path) -> None:
    """Environments are data: outside their own files no source compares with one's name."""
    names = {env.stem for env in (ROOT / "stacks").glob("[a-z]*.py")}
    assert names == {"local", "ci", "dev", "staging", "prod"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare):
            constants = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
            assert not constants & names, f"line {node.lineno}"


def test_type_tokens_are_pinned() -> None:
    """Renaming a component's type token replaces everything under it, so each is written down here."""
    found = {
        token
        for path in (ROOT / "components").glob("*.py")
        for token in re.findall(r'"(kiban:components:\w+)"', path.read_text())
    }
    assert found == {
        "kiban:components:Foundation",
        "kiban:components:Tenancy",
        "kiban:components:GpuNodePools",
        "kiban:components:DeviceSoftware",
        "kiban:components:MetadataStore",
        "kiban:components:PipelineEngine",
        "kiban:components:ServingStack",
        "kiban:components:Monitoring",
        "kiban:components:RetrainingLoop",
    }


@pytest.mark.parametrize("path", sorted((ROOT / "components").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_components_read_nothing_but_their_arguments(path: Path) -> None:
    """A component never reads Pulumi's configuration, the stack's name, the environment or the clock."""
    forbidden = re.compile(r"pulumi\.Config|get_stack|get_project|os\.environ|getenv|datetime|time\.time")
    assert not forbidden.search(path.read_text())
