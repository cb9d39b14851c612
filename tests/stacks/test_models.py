"""stacks/models.yaml: read into models, and refused with the line."""

from pathlib import Path

import pytest

from components.retraining_loop import Watch
from components.serving_stack import Canary, Model, Objective, Replicas
from stacks._models import FILE, models

DIGEST = "a" * 64
GOOD = f"""\
prod: []
dev:
  - name: digits
    team: vision
    version: 3
    uri: s3://vision/models/3/model.pkl
    digest: {DIGEST}
    runtime: kserve-sklearnserver
    format: sklearn
    replicas: {{min: 2, max: 4, target: 60}}
    canary: {{version: 4, uri: s3://vision/models/4/model.pkl, digest: {DIGEST}, percent: 10}}
    objective: {{availability: 0.995, latency_ms: 300}}
    watch: {{accuracy: 0.92, feed_range: [0, 16]}}
"""


def written(folder: Path, text: str) -> Path:
    """Return a file with the text."""
    file = folder / "models.yaml"
    file.write_text(text)
    return file


def test_a_model_is_read_with_all_its_parts(tmp_path: Path) -> None:
    """Numbers of versions may be written as numbers."""
    assert models("dev", written(tmp_path, GOOD)) == (
        Model(
            name="digits",
            team="vision",
            version="3",
            uri="s3://vision/models/3/model.pkl",
            digest=DIGEST,
            runtime="kserve-sklearnserver",
            format="sklearn",
            replicas=Replicas(min=2, max=4, target=60),
            canary=Canary(version="4", uri="s3://vision/models/4/model.pkl", digest=DIGEST, percent=10),
            objective=Objective(availability=0.995, latency_ms=300),
            watch=Watch(accuracy=0.92, feed_range=(0, 16)),
        ),
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("percent: 10", "percent: 120", "models.yaml:11: canary.percent=120; accepted: 1 to 100"),
        ("format: sklearn", "format: onnx", "models.yaml:3: model 'digits': format='onnx'"),
        ("    team: vision\n", "", "models.yaml:3: team is missing"),
        ("    team: vision\n", "    team: vision\n    team: sound\n", "models.yaml:5: 'team' for the second time"),
        ("    team:", "    tema:", "models.yaml:3: tema; accepted: name, team, version"),
        ("target: 60", "goal: 60", "models.yaml:10: replicas.goal; accepted: min, max, target"),
        ("min: 2", "min: two", "models.yaml:10: replicas."),
        ("objective: {availability: 0.995, latency_ms: 300}", "objective: fast", "models.yaml:12: objective='fast'"),
        ("dev:\n", "dev:\n  - digits\n", "models.yaml:3: accepted: the fields of a model"),
        ("prod: []\ndev:", "dev: x\nprod:", "models.yaml:1: dev; accepted: a list of models"),
        ("dev:", "test:", "models.yaml: no 'dev'"),
        ("replicas: {", "replicas: {{", "models.yaml:11: did not find expected ',' or '}'"),
    ],
)
def test_what_is_no_model_is_refused_with_the_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    """In one line, which says what is accepted."""
    with pytest.raises(ValueError, match=r"models\.yaml") as refused:
        models("dev", written(tmp_path, GOOD.replace(old, new)))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", sorted(path.stem for path in FILE.parent.glob("[a-z]*.py")))
def test_every_environment_is_in_the_file(name: str) -> None:
    """One that is missing would be a slip, not an environment without models."""
    models(name)
