"""What the wiring registers, under Pulumi's mocks: types, names, marks; no engine and no cluster."""

from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import pytest
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs, Mocks, set_mocks

from components._labels import ENVIRONMENT
from infra import wiring
from infra.wiring import FIELD_MANAGER, marked
from stacks._schema import Environment


class Recorder(Mocks):
    """Remembers every resource that is registered."""

    def __init__(self) -> None:
        self.resources: list[MockResourceArgs] = []

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        """Take a resource as it is."""
        self.resources.append(args)
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Answer no function."""
        raise NotImplementedError(args.token)


@pytest.fixture
def registered(environment: Environment) -> list[MockResourceArgs]:
    """Return what the wiring of the environment registers."""
    recorder = Recorder()
    set_mocks(recorder, project="kiban", stack=environment.name, preview=False)

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def declare() -> None:
        wiring.mark(environment)
        kube = k8s.Provider("kube", context="x")
        wiring.wire(environment, pulumi.ResourceOptions(providers=[kube]))

    declare()
    return recorder.resources


def test_every_component_is_there_under_its_pinned_name(registered: list[MockResourceArgs]) -> None:
    """Type tokens and names are contracts: another one would replace all that is below."""
    components = {(made.typ, made.name) for made in registered if made.typ.startswith("kiban:")}
    assert components == {
        ("kiban:components:Foundation", "foundation"),
        ("kiban:components:Tenancy", "tenancy"),
        ("kiban:components:GpuNodePools", "pools"),
    }


def test_every_object_is_marked(registered: list[MockResourceArgs]) -> None:
    """Each object carries the environment's label and Kiban's field manager beside its own labels."""
    objects = [made for made in registered if made.typ.startswith("kubernetes:")]
    assert len(objects) > 15
    for made in objects:
        metadata = made.inputs["metadata"]
        assert metadata["labels"][ENVIRONMENT] == "small"
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "kiban"
        assert metadata["annotations"][FIELD_MANAGER] == "kiban"


def test_every_object_has_a_name_that_is_given(registered: list[MockResourceArgs]) -> None:
    """A generated name could not be found again after a killed run."""
    assert all(made.inputs["metadata"]["name"] for made in registered if made.typ.startswith("kubernetes:"))


def test_every_object_goes_through_the_one_provider(registered: list[MockResourceArgs]) -> None:
    """No object falls to a default provider."""
    providers = {made.provider for made in registered if made.typ.startswith("kubernetes:")}
    assert len(providers) == 1
    assert "::kube::" in str(providers.pop())


@pytest.mark.parametrize(
    "type_", ["kiban:components:Foundation", "kubernetes:core/v1:NamespacePatch", "pulumi:providers:kubernetes"]
)
def test_what_is_no_object_of_ours_is_left_alone(type_: str) -> None:
    """A patch of somebody else's object must not make it look like ours."""
    props = {"metadata": {"name": "x"}}
    assert marked(type_, props, "small") is props


def test_metadata_without_labels_gets_them() -> None:
    """Absent and null labels are as good as none."""
    for metadata in (None, {}, {"labels": None}):
        made = marked("kubernetes:core/v1:ConfigMap", {"metadata": metadata}, "small")
        assert made["metadata"]["labels"] == {ENVIRONMENT: "small"}
