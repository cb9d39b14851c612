"""A model in service as data: which version, from where, on what, and what is promised of it."""

import dataclasses as dc
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from components._pools import GpuPool, Share, shares
from components._shapes import JobShape, Place
from components._shapes import check as check_shape
from components.retraining_loop import Watch
from components.tenancy import Team

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")
_URI = re.compile(r"s3://[a-z0-9][a-z0-9.-]+/[^\s?#]+")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CPU = re.compile(r"[1-9]\d*m?")
_MEMORY = re.compile(r"[1-9]\d*(Mi|Gi)")
CANARY = "-canary"
"""What the name of a canary's InferenceService ends with."""
CANARY_CONTROLLER, CANARY_PORT = "canary-controller", 8080
"""app.kubernetes.io/name of the pod that moves canaries, and where it tells its figures."""
SHARES = (10, 50, 100)
"""Percent of a model's requests that its canary gets, one after the other."""


@dc.dataclass(frozen=True, kw_only=True)
class Runtime:
    """A ClusterServingRuntime of KServe's.

    formats: modelFormat names that it knows. image: what runs.
    value: its key in the values of chart kserve-runtime-configs.
    named: whether it takes --model_name, and so can serve a canary under the model's own name.
    """

    formats: tuple[str, ...]
    image: str
    value: str
    named: bool = True


RUNTIMES: Mapping[str, Runtime] = {
    "kserve-sklearnserver": Runtime(
        formats=("sklearn",), image="docker.io/kserve/sklearnserver:v0.20.0", value="sklearnserver"
    ),
    "kserve-xgbserver": Runtime(formats=("xgboost",), image="docker.io/kserve/xgbserver:v0.20.0", value="xgbserver"),
    "kserve-lgbserver": Runtime(formats=("lightgbm",), image="docker.io/kserve/lgbserver:v0.20.0", value="lgbserver"),
    "kserve-huggingfaceserver": Runtime(
        formats=("huggingface",), image="docker.io/kserve/huggingfaceserver:v0.20.0", value="huggingfaceserver"
    ),
    "kserve-mlserver": Runtime(
        formats=("sklearn", "xgboost", "lightgbm", "mlflow"),
        image="docker.io/seldonio/mlserver:1.5.0",
        value="mlserver",
        named=False,
    ),
    "kserve-tritonserver": Runtime(
        formats=("tensorrt", "tensorflow", "onnx", "pytorch", "triton"),
        image="nvcr.io/nvidia/tritonserver:23.05-py3",
        value="tritonserver",
        named=False,
    ),
}
"""Those that Kiban installs (KServe 0.20, charts/kserve-runtime-configs); all others of the chart are left out."""


@dc.dataclass(frozen=True, kw_only=True)
class Replicas:
    """How many pods serve a model.

    target: between min and max, the percentage of the requested cores at which there shall be more.
    """

    min: int = 1
    max: int = 1
    target: int = 70

    def __post_init__(self) -> None:
        if not 1 <= self.min <= 1000:
            raise ValueError(f"replicas.min={self.min!r}; accepted: 1 to 1000")
        if not self.min <= self.max <= 1000:
            raise ValueError(f"replicas.max={self.max!r}; accepted: min={self.min} to 1000")
        if not 1 <= self.target <= 100:
            raise ValueError(f"replicas.target={self.target!r}; accepted: 1 to 100 (percent of the requested cores)")


@dc.dataclass(frozen=True, kw_only=True)
class Objective:
    """What is promised of a model's answers.

    availability: the part that is no server error, within 30 days. latency_ms: what 99 of 100 answers take at most.
    """

    availability: float = 0.99
    latency_ms: int = 1000

    def __post_init__(self) -> None:
        if not 0.5 <= self.availability < 1:
            raise ValueError(f"objective.availability={self.availability!r}; accepted: 0.5 to below 1")
        if not 1 <= self.latency_ms <= 600_000:
            raise ValueError(f"objective.latency_ms={self.latency_ms!r}; accepted: 1 to 600000")


@dc.dataclass(frozen=True, kw_only=True)
class Canary:
    """Another version of a model, which gets a rising share of its requests while the model's objective holds.

    percent: the first share, once it is ready; then come those of SHARES that are higher.
    step_minutes: how long each is held at least. fewest_requests: to the canary, in a step, before the next one.
    """

    version: str
    uri: str
    digest: str
    percent: int = 10
    step_minutes: int = 10
    fewest_requests: int = 100

    def __post_init__(self) -> None:
        _check_source("canary.", self.version, self.uri, self.digest)
        for field, most in (("percent", 100), ("step_minutes", 1440), ("fewest_requests", 1_000_000)):
            if not 1 <= getattr(self, field) <= most:
                raise ValueError(f"canary.{field}={getattr(self, field)!r}; accepted: 1 to {most}")

    @property
    def steps(self) -> tuple[int, ...]:
        """Percent of the requests, one after the other."""
        return (self.percent, *(share for share in SHARES if share > self.percent))


@dc.dataclass(frozen=True, kw_only=True)
class Model:
    """A model that a team has in service.

    name: of its InferenceService, and what requests call it; unique in a team.
    version: of the registered model in MLflow.
    uri: s3://BUCKET/KEY of the model's file; with a `/` at its end, of a folder.
    digest: SHA-256 of the file, in hex; of a folder, of what `sha256sum` prints for its files in the order of their
        names (infra/models.py).
    runtime, format: a key of RUNTIMES and one of its formats.
    cpu, memory: what a pod requests; it may use twice the cores (at least 2), and no more memory.
    gpus, pool: how much of the pool's resource a pod gets; POOL/PROFILE of a pool that offers several.
    watch: how it is watched and when it is retrained; None: not at all.
    Raises ValueError naming the field, the value and what is accepted.
    """

    name: str
    team: str
    version: str
    uri: str
    digest: str
    runtime: str
    format: str
    cpu: str = "100m"
    memory: str = "512Mi"
    gpus: int = 0
    pool: str | None = None
    replicas: Replicas = dc.field(default_factory=Replicas)
    canary: Canary | None = None
    objective: Objective = dc.field(default_factory=Objective)
    watch: Watch | None = None

    def __post_init__(self) -> None:
        try:
            self._check()
        except ValueError as error:
            raise ValueError(f"model {self.name!r}: {error}") from None

    def _check(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name) or self.name.endswith(CANARY):
            raise ValueError(
                f"name; accepted: lower-case letters, digits and '-', at most 32 characters, not ending with '{CANARY}'"
            )
        _check_source("", self.version, self.uri, self.digest)
        if self.runtime not in RUNTIMES:
            raise ValueError(f"runtime={self.runtime!r}; accepted: {', '.join(RUNTIMES)}")
        runtime = RUNTIMES[self.runtime]
        if self.format not in runtime.formats:
            raise ValueError(
                f"format={self.format!r}, which {self.runtime} does not know; accepted: {', '.join(runtime.formats)}"
            )
        for field, pattern, accepted in (
            ("cpu", _CPU, "cores or thousandths of one, such as 2 or 500m"),
            ("memory", _MEMORY, "Mi or Gi, such as 512Mi"),
        ):
            if not pattern.fullmatch(str(getattr(self, field))):
                raise ValueError(f"{field}={getattr(self, field)!r}; accepted: {accepted}")
        if (self.gpus > 0) != (self.pool is not None) or self.gpus < 0:
            raise ValueError(f"gpus={self.gpus!r}, pool={self.pool!r}; accepted: both, or neither")
        if self.canary and not runtime.named:
            able = ", ".join(name for name, each in RUNTIMES.items() if each.named)
            raise ValueError(f"canary with runtime {self.runtime}; accepted: {able}")

    @property
    def sources(self) -> tuple[tuple[str, str], ...]:
        """URI and digest of what is in service: of the model, and of its canary."""
        own = ((self.uri, self.digest),)
        return (*own, (self.canary.uri, self.canary.digest)) if self.canary else own

    @property
    def shape(self) -> JobShape:
        """A pod of it."""
        return JobShape(name=self.name, cpu=self.cpu, memory=self.memory, gpus=self.gpus, pool=self.pool)

    @property
    def millicores(self) -> int:
        """What a pod requests, in thousandths of a core."""
        return int(self.cpu[:-1]) if self.cpu.endswith("m") else int(self.cpu) * 1000


def _check_source(prefix: str, version: object, uri: object, digest: object) -> None:
    if not re.fullmatch(r"[1-9]\d*", str(version)):
        raise ValueError(f"{prefix}version={version!r}; accepted: the number of a registered version, 1 or more")
    if not isinstance(uri, str) or not _URI.fullmatch(uri):
        raise ValueError(f"{prefix}uri={uri!r}; accepted: s3://BUCKET/KEY")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"{prefix}digest={digest!r}; accepted: a SHA-256 as 64 hex digits")


def check(
    models: Sequence[Model],
    *,
    teams: Sequence[Team],
    pools: Sequence[GpuPool],
    buckets: Mapping[str, str],
    gateway: bool,
    prometheus: bool,
) -> None:
    """Raise ValueError for a model that the environment has no team, bucket, pool, devices or gateway for.

    prometheus: whether there is one, by which a canary is judged.
    """
    twice = [key for key, count in Counter((each.team, each.name) for each in models).items() if count > 1]
    if twice:
        raise ValueError(f"models: team {twice[0][0]!r} has two named {twice[0][1]!r}; accepted: one a name")
    known = {team.name: team for team in teams}
    for model in models:
        if model.team not in known:
            raise ValueError(f"model {model.name!r}: team={model.team!r}; accepted: {', '.join(known) or 'no team'}")
        bucket = buckets[model.team]
        for uri, _ in model.sources:
            if not uri.startswith(f"s3://{bucket}/"):
                raise ValueError(f"model {model.name!r}: uri={uri!r}; accepted: in the team's bucket, s3://{bucket}/")
        if model.canary and not gateway:
            raise ValueError(
                f"model {model.name!r}: canary, and the environment has no gateway that could share requests out; "
                "accepted: none"
            )
        if model.canary and not prometheus:
            raise ValueError(
                f"model {model.name!r}: canary, and the environment has no monitoring to judge it by; accepted: none"
            )
    _check_devices(models, teams=known, offered=shares(pools))


def _check_devices(models: Sequence[Model], *, teams: Mapping[str, Team], offered: Mapping[str, Share]) -> None:
    """Every GPU model fits a node, and a team's together at their smallest what the team was promised, not borrows."""
    taken: Counter[tuple[str, str]] = Counter()
    for model in models:
        if model.pool is None:
            continue
        if model.pool not in offered:
            accepted = ", ".join(offered) or "no pool"
            raise ValueError(f"model {model.name!r}: pool={model.pool!r}; accepted: {accepted}")
        share = offered[model.pool]
        if model.gpus > share.units_per_node:
            raise ValueError(
                f"model {model.name!r}: gpus={model.gpus}; accepted: up to {share.units_per_node}, "
                f"the {share.resource} of a node of pool {share.pool.name!r}"
            )
        key = (model.team, share.name)
        taken[key] += model.gpus * model.replicas.min * len(model.sources)
        promised = teams[model.team].gpus.get(share.name, 0)
        if taken[key] > promised:
            raise ValueError(
                f"model {model.name!r}: with it the models of team {model.team!r} take {taken[key]} of pool "
                f"{share.name!r} at their fewest replicas; accepted: up to {promised}, what the team is promised there "
                "(what is borrowed can be taken back)"
            )


def check_sizes(models: Sequence[Model], places: Mapping[str, Sequence[Place]]) -> None:
    """Raise ValueError for a model of which no node that its team has a part of holds a pod. places: by team."""
    for model in models:
        check_shape(model.shape, places[model.team], who=f"model {model.name!r}")
