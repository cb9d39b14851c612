"""The reference pipeline as its two engines get it: the WorkflowTemplate, and what the kfp SDK compiles."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.checkout import ROOT

REFERENCE = ROOT / "pipelines" / "reference"
WORKFLOWS = Path(__file__).parent / "workflows"
Document = dict[str, Any]


class Compiler:
    """The SDK's environment, made from its lock as the how-to says, and the program that runs in it."""

    def __init__(self, folder: Path) -> None:
        uv = Path(sys.executable).parent / "uv"
        self._python = folder / "kfp" / "bin" / "python"
        self._folder = folder
        for command in (
            ("venv", "--quiet", f"--python={sys.executable}", str(folder / "kfp")),
            (
                *("pip", "install", "--quiet", f"--python={self._python}", "--require-hashes"),
                f"--requirements={REFERENCE / 'kubeflow.txt'}",
            ),
        ):
            subprocess.run([uv, *command], check=True)

    def compiled(self, *options: str) -> tuple[Document, Document]:
        """The pipeline, and what is Kubernetes' of it."""
        target = self._folder / f"{'-'.join(['reference', *options]).replace('/', '-')}.yaml"
        if not target.exists():
            subprocess.run([self._python, REFERENCE / "kubeflow.py", target, *options], check=True)
        pipeline, platform = yaml.safe_load_all(target.read_text())
        return pipeline, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]

    def loaded(self, file: Path) -> Document:
        """A compiled pipeline as the SDK reads it before it uploads it."""
        program = (
            "import sys; from google.protobuf import json_format; from kfp import components; "
            "spec = components.load_component_from_file(sys.argv[1]).pipeline_spec; "
            "print(json_format.MessageToJson(spec))"
        )
        done = subprocess.run([self._python, "-c", program, file], capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout))


@pytest.fixture(scope="session")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    """Return the kfp SDK."""
    return Compiler(tmp_path_factory.mktemp("kubeflow"))


@pytest.fixture(scope="session")
def template() -> Document:
    """Return the WorkflowTemplate."""
    return dict(yaml.safe_load((REFERENCE / "workflow.yaml").read_text()))
