"""Images that float, and images that are not listed."""

import json
from typing import Any

import pytest

from infra.rehearsal.checks.images import CHECKS
from infra.rehearsal.snapshot import Object
from tests.rehearsal.checks.clusters import PLATFORM, deployment, made, outcome, said, snapshot, space

DIGEST = "sha256:" + "a" * 64
KFP = "ghcr.io/kubeflow/kfp-api-server:2.17.0"


def config(**data: str) -> Object:
    """Return a ConfigMap of the platform's."""
    return made("v1", "ConfigMap", "config", "kserve", labels=PLATFORM, data=data)


def runtime(image: str, *, disabled: bool = False) -> list[Object]:
    """Return a custom resource of the platform's that names an image, and its kind."""
    names = {"kind": "ClusterServingRuntime", "plural": "clusterservingruntimes"}
    kind = made(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "clusterservingruntimes.serving.kserve.io",
        labels=PLATFORM,
        spec={"group": "serving.kserve.io", "names": names, "versions": [{"schema": {"image": {"type": "string"}}}]},
    )
    spec = {"disabled": disabled, "containers": [{"name": "server", "image": image}]}
    return [kind, made("serving.kserve.io/v1alpha1", "ClusterServingRuntime", "mlserver", labels=PLATFORM, spec=spec)]


def variables(**given: str) -> list[Object]:
    """Return a container's environment."""
    return [{"name": name, "value": value} for name, value in given.items()]


@pytest.mark.parametrize(
    "objects",
    [
        [deployment("x", image=image)]
        for image in (
            "docker.io/library/mysql:8.4",
            "docker.io/envoyproxy/envoy:distroless-v1.39.3",
            "localhost:5000/x:17b1956c",
            f"quay.io/x/y@{DIGEST}",
            f"quay.io/x/y:latest@{DIGEST}",
        )
    ]
    + [
        [deployment("x", args=["--reloader=quay.io/prometheus-operator/prometheus-config-reloader:v0.93.1"])],
        [deployment("x", args=['--versions={"postgres": "docker.io/library/postgres:15.20-bookworm"}'])],
        [deployment("x", env=variables(PATH_OF="docker.io/tensorflow/tensorflow", NO_IMAGE="", URL="http://a.io/x:y"))],
        [deployment("x", image=KFP, env=variables(V2_DRIVER_IMAGE="a.io/d:2.17.0", V2_LAUNCHER_IMAGE="a.io/l:2.17.0"))],
        [config(cacheImage="docker.io/library/busybox:1.35.0", executor="image: quay.io/argoproj/argoexec:v3.7.18")],
        [config(_example="image: kserve/agent:latest", script="image = 'x'\n  def f(: pass")],
        [config(explainers=json.dumps({"art": {"image": "kserve/art", "defaultImageVersion": "v0.20.0"}}))],
        [config(steps="image: '{{inputs.parameters.image}}'"), made("v1", "ConfigMap", "x", "y", data={"image": "a"})],
        runtime("docker.io/seldonio/mlserver:1.5.0"),
        runtime("vllm/vllm-openai:latest", disabled=True),
        [deployment("coredns", "kube-system", image="coredns")],
    ],
)
def test_an_image_with_a_version_or_a_digest_is_pinned(objects: list[Object]) -> None:
    """Wherever it is; what is no image, an example, a parameter or not the platform's is none."""
    found = outcome(CHECKS, "images-pinned", snapshot(*objects))
    assert (found.evidence, found.findings) == ("simulated", ())


@pytest.mark.parametrize(
    ("objects", "problem"),
    [
        ([deployment("x", image="quay.io/a/b")], "quay.io/a/b has no tag"),
        ([deployment("x", image="localhost:5000/b")], "localhost:5000/b has no tag"),
        ([deployment("x", image="a/b:latest")], "the tag of a/b:latest names no version"),
        ([deployment("x", image="a/b:latest-v1")], "the tag of a/b:latest-v1 names no version"),
        ([deployment("x", image="a/b:main")], "the tag of a/b:main names no version"),
        ([deployment("x", image="a/kueue:release-0.19")], "the tag of a/kueue:release-0.19 names no version"),
        ([deployment("x", spec={"initContainers": [{"name": "i", "image": "busybox"}]})], "busybox has no tag"),
        ([deployment("x", args=["--reloader=quay.io/a/reloader"])], "quay.io/a/reloader has no tag"),
        ([deployment("x", args=["--reloader=quay.io/a/reloader:main"])], "the tag of quay.io/a/reloader:main"),
        ([deployment("x", env=variables(V2_DRIVER_IMAGE="a/driver"))], "a/driver has no tag"),
        ([deployment("x", env=variables(ANY="--image ghcr.io/a/b:edge"))], "the tag of ghcr.io/a/b:edge"),
        ([config(cacheImage="docker.io/library/busybox")], "docker.io/library/busybox has no tag"),
        ([config(executor="image: quay.io/argoproj/argoexec")], "quay.io/argoproj/argoexec has no tag"),
        ([config(agent='{"image": "kserve/agent:latest"}')], "the tag of kserve/agent:latest names no version"),
        ([config(art=json.dumps({"image": "kserve/art", "defaultImageVersion": "latest"}))], "kserve/art:latest"),
        (runtime("vllm/vllm-openai:latest"), "the tag of vllm/vllm-openai:latest names no version"),
    ],
)
def test_an_image_that_floats_is_found(objects: list[Object], problem: str) -> None:
    """In a container, an argument, a variable, a ConfigMap, a custom resource."""
    (found,) = said(CHECKS, "images-pinned", snapshot(*objects))
    assert problem in found
    assert outcome(CHECKS, "images-pinned", snapshot(*objects)).looked_at


def test_a_program_that_falls_back_to_latest_is_found() -> None:
    """KFP's API server, where it is not told of both."""
    server = deployment("kfp", image=KFP, env=variables(V2_DRIVER_IMAGE="a/driver:2.17.0", V2_LAUNCHER_IMAGE=""))
    assert said(CHECKS, "images-pinned", snapshot(server)) == [
        f"Deployment kiban-metadata/kfp: V2_LAUNCHER_IMAGE is not set for {KFP}, which then takes the tag latest"
    ]


LISTED = ("docker.io/library/mysql:8.4", "ghcr.io/mlflow/mlflow:v3.17.2")


def pod(image: str, namespace: str, **metadata: Any) -> Object:  # noqa: ANN401 - labels
    """Return a pod."""
    return made("v1", "Pod", "x", namespace, spec={"containers": [{"name": "x", "image": image}]}, **metadata)


@pytest.mark.parametrize(
    "one",
    [
        deployment("x"),
        deployment("x", image="mysql:8.4"),
        pod("user/own:1", "team-vision"),
        pod("user/own:1", "kiban-metadata", labels={"workflows.argoproj.io/workflow": "run"}),
        pod("coredns:1", "kube-system"),
    ],
)
def test_listed_images_and_those_of_users_are_fine(one: Object) -> None:
    """By whatever name; a run's pods are a user's wherever they are."""
    spaces = [space("kiban-metadata"), space("team-vision", "vision"), space("kube-system", platform=False)]
    assert not said(CHECKS, "images-listed", snapshot(one, *spaces), images=LISTED)


@pytest.mark.parametrize(
    ("one", "of"),
    [
        (deployment("x", image="quay.io/a/b:1"), "Deployment kiban-metadata/x"),
        (deployment("log", "team-vision", image="quay.io/a/b:1"), "Deployment team-vision/log"),
        (pod("quay.io/a/b:1", "kiban-metadata"), "Pod kiban-metadata/x"),
    ],
)
def test_an_image_of_the_platform_that_is_not_listed_is_found(one: Object, of: str) -> None:
    """In its own namespaces all, in a team's what it has put there."""
    now = snapshot(one, space("kiban-metadata"), space("team-vision", "vision"))
    found = outcome(CHECKS, "images-listed", now, images=LISTED)
    assert (found.evidence, found.looked_at) == ("simulated", 1)
    assert said(CHECKS, "images-listed", now, images=LISTED) == [
        f"{of}: quay.io/a/b:1 is not in the list of images that the environment needs"
    ]
