"""What a run did, out of the engine's events as it sends them."""

from typing import Any

import pytest
from pulumi.automation import EngineEvent

from infra.engine.events import Run, masked, plain, short_name

URN = "urn:pulumi:small::kiban::kiban:components:Foundation$kubernetes:core/v1:Namespace::system"
STACK = "urn:pulumi:small::kiban::pulumi:pulumi:Stack::kiban-small"


def step(event: str, op: str, urn: str = URN, **metadata: Any) -> EngineEvent:  # noqa: ANN401
    """Return an event of one step of a resource."""
    type_ = urn.split("::")[2].rpartition("$")[2]
    state = {"type": type_, "urn": urn, "custom": not type_.startswith(("kiban:", "pulumi:pulumi"))}
    return EngineEvent.from_json({event: {"metadata": {"op": op, "urn": urn, "type": type_, "new": state} | metadata}})


def diagnostic(severity: str, message: str, urn: str = "") -> EngineEvent:
    """Return a diagnostic event."""
    return EngineEvent.from_json({"diagnosticEvent": {"severity": severity, "message": message, "urn": urn}})


def run(*events: EngineEvent) -> Run:
    """Return a run that has seen these events."""
    seen = Run()
    for event in events:
        seen(event)
    if seen.broken:
        raise seen.broken
    return seen


def test_a_resource_is_counted_once_by_what_came_last() -> None:
    """A component tells its end twice, and after a refresh comes the update that counts."""
    twice = run(step("resOutputsEvent", "same"), step("resOutputsEvent", "same"))
    assert dict(twice.counts) == {"unchanged": 1}
    assert twice.changes == []
    refreshed = run(step("resOutputsEvent", "refresh"), step("resOutputsEvent", "update"))
    assert dict(refreshed.counts) == {"updated": 1}


def test_a_replacement_is_one_change() -> None:
    """The engine tells of a replacement in three steps."""
    ops = ("create-replacement", "replace", "delete-replaced")
    seen = run(*(step(event, op) for op in ops for event in ("resourcePreEvent", "resOutputsEvent")))
    assert dict(seen.counts) == {"replaced": 1}


def test_a_change_names_the_properties() -> None:
    """What differs is known when the step begins."""
    diff = {"spec.replicas": {"diffKind": "update"}}
    seen = run(step("resourcePreEvent", "update", detailedDiff=diff), step("resOutputsEvent", "update"))
    assert [(change.name, change.keys) for change in seen.changes] == [("Namespace system", ("spec.replicas",))]


def test_what_is_under_way_is_known() -> None:
    """A step is under way from its beginning to its end, also where it fails."""
    begun = run(step("resourcePreEvent", "create"))
    assert list(begun.running) == [URN]
    failed = run(step("resourcePreEvent", "create"), step("resOpFailedEvent", "create"))
    assert (list(failed.running), dict(failed.counts)) == ([], {"failed": 1})


def test_outputs_come_without_their_secrets() -> None:
    """The engine masks secrets in its events; what is left of their form is not shown."""
    secret = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "[secret]"}
    state = {"type": "pulumi:pulumi:Stack", "urn": STACK, "outputs": {"a": 1, "b": {"c": [secret]}, "d": secret}}
    seen = run(step("resOutputsEvent", "same", STACK, new=state))
    assert seen.outputs == {"a": 1, "b": {"c": ["[secret]"]}, "d": "[secret]"}
    assert seen.counts == {}
    assert masked(secret) == "[secret]"


def test_errors_are_told_with_their_resource() -> None:
    """Colours go, lists of one are a sentence; the echoes of the exit status and of the first error are left out."""
    seen = run(
        diagnostic("error", "<{%reset%}>1 error occurred:\n\t* it broke<{%reset%}>\n", URN),
        diagnostic("error", "update failed"),
        diagnostic("error", "Chart resource 'kueue' has a problem: grpc: the client connection is closing"),
        diagnostic("debug", "registering"),
        diagnostic("warning", "mind this"),
    )
    assert [str(error) for error in seen.errors] == ["Namespace system: it broke"]
    assert [problem.message for problem in seen.problems if problem.severity == "warning"] == ["mind this"]


def test_operations_that_were_cut_off_are_noticed() -> None:
    """Pulumi's page of advice becomes a fact for the session to act on."""
    advice = (
        "Attempting to deploy or update resources with 3 pending operations from previous deployment.\n  * x\nThese"
    )
    seen = run(diagnostic("warning", advice))
    assert (seen.pending, seen.problems) == (True, [])


def test_an_error_in_the_listener_is_kept() -> None:
    """The Automation API would print it as a warning and go on."""
    seen = Run()
    seen(step("resOutputsEvent", "same", "not a urn::x::y"))
    seen(EngineEvent.from_json({"resOutputsEvent": {"metadata": {"op": "same", "urn": URN, "type": "x"}}}))
    seen._take = None  # type: ignore[assignment,method-assign]  # noqa: SLF001
    seen(diagnostic("error", "x"))
    with pytest.raises(TypeError):
        raise seen.broken or AssertionError


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('resource "urn:pulumi:a::b::c::d" was not created', "was not created"),
        ("resource urn:pulumi:a::b::c::d was successfully created, but", "was successfully created, but"),
        ("2 errors occurred:\n\t* a\n\t* b", "a\n\t* b"),
        (
            "resource urn:pulumi:a::b::c violates plan: properties changed: =~metadata[{map[a:{x}]}], ++spec[{y}]",
            "is not as planned: properties changed: metadata, spec",
        ),
        ("resource violates plan: it is deleted", "is not as planned: it is deleted"),
        ("as it is", "as it is"),
    ],
)
def test_messages_lose_what_stands_before_them_anyway(said: str, told: str) -> None:
    """The URN is not repeated."""
    assert plain(said) == told


def test_a_conflict_names_who_and_what() -> None:
    """Of two paragraphs of Go and Kubernetes, the field and its manager are what a user needs."""
    said = (
        'Preview failed: 1 error occurred:\n\t* the Kubernetes API server reported that "x" failed to fully initialize '
        "or become live: Server-Side Apply field conflict detected. See https://example.com for help.\nThe resource "
        'managed by field manager "kiban" had an apply conflict: Apply failed with 2 conflicts: conflicts with '
        '"kubectl-label" using v1:\n- .metadata.labels.a\n- .spec.b'
    )
    seen = run(diagnostic("error", said, URN))
    assert str(seen.errors[0]) == "Namespace system: 'kubectl-label' has set .metadata.labels.a, .spec.b since"
    assert seen.conflicts
    assert not run(diagnostic("error", "it broke", URN)).conflicts


def test_a_urn_has_a_short_name() -> None:
    """Kind and name are what a reader knows the resource by."""
    assert short_name(URN) == "Namespace system"
    assert short_name("urn:pulumi:a::kiban::kubernetes:helm.sh/v4:Chart$kubernetes:apps/v1:Deployment::x:y/z") == (
        "Deployment x:y/z"
    )
