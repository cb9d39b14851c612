"""What the tree of this program consists of: digests of its parts, and the names and versions of what it brings.

Nothing here depends on the date, the machine or git, so the same sources give the same contents everywhere. Releases
and their records (releases/), tests and documentation are no part of it.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

import stacks
from components.serving_stack import Model
from infra import charts
from infra.charts import InModule, Pin
from infra.errors import BadInput
from infra.release import canonical
from infra.toolchain.catalogue import MODULES, TOOLS
from stacks._schema import Environment

_PROGRAM = ("infra", "components", "pipelines", "kiban", "pyproject.toml", "uv.lock", "Pulumi.yaml")
_LIBRARIES = ("pulumi", "pulumi-kubernetes")
_SCHEMA = {"release": "kiban/release/v1", "record": "kiban/record/v1"}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def contents(root: Path) -> dict[str, Any]:
    """The contents of the tree at the root, which is the one that this code is from (docs/reference/release.md).

    Raises BadInput where an environment, a pin or a digest in it cannot be used.
    """
    environments = {name: _environment(name) for name in stacks.names()}
    return {
        "charts": _charts(root),
        "program": _program(root),
        "environments": {name: _values(root, name) for name in environments},
        "upstream": _upstream(),
        "images": _images(root, environments),
        "models": {
            f"{name}/{model.team}/{model.name}": _model(model)
            for name, environment in environments.items()
            for model in (environment.serving.models if environment.serving else ())
        },
        "tools": _tools(root),
        "schema": _SCHEMA,
    }


def applied(contents: Mapping[str, Any], environment: str) -> str:
    """The digest of what an `up` of an environment depends on, out of a release's contents."""
    parts = {part: contents[part] for part in ("charts", "program", "upstream")}
    return canonical.digest(parts | {"environment": contents["environments"].get(environment)})


def applied_in(root: Path, environment: str) -> str:
    """The same of the tree at the root, without what it takes to tell the rest of its contents."""
    known = {"charts": _charts(root), "program": _program(root), "upstream": _upstream()}
    return applied(known | {"environments": {environment: _values(root, environment)}}, environment)


def tree_digest(path: Path) -> str:
    """The SHA-256, in hex, of a file, or of a folder's listing: what `sha256sum` prints for its files, by name."""
    if path.is_file():
        return canonical.file_digest(path)
    return _listing((file for file in path.rglob("*") if file.is_file()), path)


def _listing(files: Iterable[Path], folder: Path) -> str:
    names = {file.relative_to(folder).as_posix(): file for file in files if "__pycache__" not in file.parts}
    lines = [f"{canonical.file_digest(names[name])}  {name}\n" for name in sorted(names)]
    return sha256("".join(lines).encode()).hexdigest()


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.name != "__pycache__")


def _charts(root: Path) -> dict[str, str]:
    return {path.name: tree_digest(path) for path in _sorted((root / "charts").iterdir())}


def _program(root: Path) -> dict[str, str]:
    schema = _listing((root / "stacks").glob("_*.py"), root / "stacks")
    return {**{name: tree_digest(root / name) for name in _PROGRAM}, "stacks": schema}


def _environment(name: str) -> Environment:
    try:
        return stacks.load(name)
    except ValueError as error:
        raise BadInput(" ".join(str(error).split())) from None


def _values(root: Path, name: str) -> dict[str, str | None]:
    """Digests of an environment's values, of its stack's configuration, and of its section of stacks/models.yaml."""
    configuration = root / "stacks" / f"Pulumi.{name}.yaml"
    models = yaml.load((root / "stacks" / "models.yaml").read_text(), Loader=yaml.BaseLoader)  # noqa: S506 - texts only
    return {
        "values": canonical.file_digest(root / "stacks" / f"{name}.py"),
        "configuration": canonical.file_digest(configuration) if configuration.exists() else None,
        "models": canonical.digest({"models": models.get(name)}),
    }


def _upstream() -> dict[str, dict[str, str | None]]:
    return {
        **{f"charts/{name}": {"version": pin.version, **_place(pin)} for name, pin in charts.pins().items()},
        **{f"crds/{name}": {"version": _version(kind), **_module(kind)} for name, kind in charts.kinds().items()},
    }


def _place(pin: Pin) -> dict[str, str | None]:
    return _module(pin.source) if pin.source else {"module": None, "sum": None, "published": pin.published}


def _version(pin: InModule) -> str:
    return pin.module.partition("@")[2]


def _module(pin: InModule) -> dict[str, str | None]:
    """A module, and the checksum by which Go knows it."""
    path, version = pin.module.partition("@")[0], _version(pin)
    sums = (MODULES / pin.family / "go.sum").read_text().splitlines()
    found = [line.removeprefix(f"{path} {version} ") for line in sums if line.startswith(f"{path} {version} h1:")]
    if not found:
        raise BadInput(
            f"charts/upstream.yaml: {pin.name}: module={pin.module}; accepted: one that "
            f"infra/toolchain/modules/{pin.family}/go.sum has a checksum of"
        )
    return {"module": pin.module, "sum": found[0]}


def _images(root: Path, environments: Mapping[str, Environment]) -> dict[str, dict[str, Any]]:
    named: dict[str, list[str]] = {}
    for name, environment in environments.items():
        for image in charts.images(environment):
            named.setdefault(image, []).append(name)
    digests = _digests(root / "charts" / "digests.yaml", named)
    return {image: _image(image, digests.get(image)) | {"environments": by} for image, by in named.items()}


def _image(image: str, known: str | None) -> dict[str, str | None]:
    """The tag and the digest of a reference, which may have either. known: the digest where the reference has none."""
    reference, _, digest = image.partition("@")
    _, _, tag = reference.rpartition("/")[2].partition(":")
    return {"tag": tag or None, "digest": digest or known}


def _digests(file: Path, named: Mapping[str, Any]) -> dict[str, str]:
    """What the registries' manifests are known to be. Raises BadInput for what is no digest of an image in use."""
    try:
        digests = yaml.safe_load(file.read_text()) or {}
    except yaml.YAMLError as error:
        raise BadInput(f"charts/{file.name}: {' '.join(str(error).split())}") from None
    if not isinstance(digests, dict):
        raise BadInput(f"charts/{file.name}; accepted: IMAGE: sha256:… a line")
    for image, digest in digests.items():
        if not _DIGEST.fullmatch(str(digest)):
            raise BadInput(f"charts/{file.name}: {image}: {digest!r}; accepted: sha256: and 64 hex digits")
        if image not in named:
            raise BadInput(f"charts/{file.name}: {image}; accepted: an image that `kiban images ENV` lists")
    return dict(digests)


def _model(model: Model) -> dict[str, Any]:
    canary = model.canary
    return {
        "version": model.version,
        "uri": model.uri,
        "digest": model.digest,
        "canary": canary and {"version": canary.version, "uri": canary.uri, "digest": canary.digest},
    }


def _tools(root: Path) -> dict[str, str]:
    """Versions: of tools as `kiban tools list` has them, and of the libraries that talk to them, which uv.lock pins."""
    locked = {each["name"]: each.get("version") for each in tomllib.loads((root / "uv.lock").read_text())["package"]}
    return {
        **{name: tool.version for name, tool in TOOLS.items()},
        **{f"pypi/{name}": locked[name] for name in _LIBRARIES},
        "uv.lock": canonical.file_digest(root / "uv.lock"),
    }
