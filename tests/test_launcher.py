"""What `./kiban` hands over to the real command."""

import os
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from infra import paths


@pytest.fixture
def launcher(tmp_path: Path) -> ModuleType:
    """Return the launcher as a module, as if its virtual environment were there and current."""
    loader = SourceFileLoader("launcher", str(paths.ROOT / "kiban"))
    spec = spec_from_loader("launcher", loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    module.VENV, module.STAMP = tmp_path, tmp_path / "made-from"  # type: ignore[attr-defined]
    (tmp_path / "made-from").write_text(module.fingerprint())
    return module


def test_byte_code_is_kept_where_the_environment_turns_it_off(
    launcher: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each command would compile what it imports."""
    handed: list[tuple[object, ...]] = []
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr("sys.argv", ["kiban", "status", "--json"])
    monkeypatch.setattr(os, "execv", lambda *given: handed.append((*given, dict(os.environ))))
    launcher.main()
    ((program, words, variables),) = handed
    assert (program, words) == (tmp_path / "bin" / "kiban", [f"{tmp_path}/bin/kiban", "status", "--json"])
    assert isinstance(variables, dict)
    assert "PYTHONDONTWRITEBYTECODE" not in variables
