"""Whether each connection that a pod needs is let through by the NetworkPolicies of both ends.

Twice: by reading the policies, for every pod (simulated); and where both ends run on the real node by connecting from
the pod's own network namespace (executed). That nothing comes back is only held against the way where the other end
does listen, at the pod itself.
"""

import dataclasses as dc
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from infra.clusters.embedded import node
from infra.rehearsal import reach
from infra.rehearsal.flows import Flow, Told
from infra.rehearsal.look import Check, Finding, Look, Outcome, outcome
from infra.rehearsal.makers import makers
from infra.rehearsal.policies import End, Policies
from infra.rehearsal.reach import Address
from infra.rehearsal.selectors import selects
from infra.rehearsal.snapshot import Object, Snapshot, ended, name


@dc.dataclass(frozen=True, kw_only=True)
class Source:
    """What opens connections. of: what is reported. uid: of its pod, where there is one yet."""

    of: str
    end: End
    spec: Object
    uid: str | None


@dc.dataclass(frozen=True, kw_only=True)
class Target:
    """A pod behind a Service, by its uid, or the API server; with the port that the connection ends at."""

    end: End
    port: int
    uid: str | None = None


@dc.dataclass(frozen=True, kw_only=True)
class Way:
    """A connection. address: what the source's pod calls; None where it sends packets, not a call (UDP)."""

    source: Source
    flow: Flow
    targets: tuple[Target, ...]
    address: Address | None

    def finding(self, why: str) -> Finding:
        """That it is shut."""
        flow = self.flow
        return Finding(
            object=self.source.of,
            message=f"cannot reach {flow.protocol} {flow.service}.{flow.namespace}:{flow.port} ({flow.said}): {why}",
            remedy=f"allow it by NetworkPolicies: out of {self.source.end.namespace}, and into {flow.namespace}",
        )


def network(look: Look) -> Outcome:
    """What cannot reach a Service that it is told of."""
    those = list(ways(look.now))
    policies = Policies(look.now.all("NetworkPolicy.networking.k8s.io"))
    read = {index: why for index, way in enumerate(those) if (why := shut(way, policies))}
    tried = _tried(those)
    silent = [index for index, answer in tried.items() if not answer and index not in read]
    found = [those[index].finding(why) for index, why in read.items()]
    found += [those[index].finding("nothing came back within 2 s, though it listens there") for index in silent]
    return outcome("executed" if tried else "simulated", those, found)


def ways(snapshot: Snapshot) -> Iterator[Way]:
    """Every connection that something needs, and behind which there is something now."""
    spaces = {each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in snapshot.all("Namespace")}
    services = {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in snapshot.all("Service")}
    pods: dict[str, list[Object]] = defaultdict(list)
    for pod in snapshot.all("Pod"):
        if not ended(pod) and "deletionTimestamp" not in pod["metadata"]:
            pods[pod["metadata"]["namespace"]].append(pod)
    told = Told(snapshot)
    for source in _sources(snapshot, pods, spaces):
        for flow in told.flows(source.end.namespace, source.spec):
            service = services[flow.namespace, flow.service]
            targets = tuple(_targets(snapshot, service, flow, pods, spaces))
            itself = source.uid is not None and {source.uid} == {target.uid for target in targets}
            if targets and not itself:
                yield Way(source=source, flow=flow, targets=targets, address=_address(service, flow, targets))


def shut(way: Way, policies: Policies) -> str | None:
    """Who keeps the source from any of the targets.

    The API server has several addresses, of its Service and its own: which of them a policy has to name is for the
    plugin to say, so one is enough.
    """
    whys = [policies.shut(way.source.end, each.end, each.port, way.flow.protocol) for each in way.targets]
    kept = [why for why in whys if why]
    if not way.targets[0].end.namespace and len(kept) < len(whys):
        return None
    return kept[0] if kept else None


def _sources(snapshot: Snapshot, pods: dict[str, list[Object]], spaces: dict[str, Object]) -> Iterator[Source]:
    """One pod of each that makes pods, on the real node where one is; and what CronJobs are yet to make."""
    maker = makers(snapshot)
    everything = [pod for those in pods.values() for pod in those]
    chosen: dict[str, Object] = {}
    for pod in sorted(everything, key=lambda pod: pod["spec"].get("nodeName") != node.NAME):
        chosen.setdefault(name(maker(pod)), pod)
    for owner, template in snapshot.templates():
        if owner["kind"] == "CronJob":
            metadata = {**(template.get("metadata") or {}), "namespace": owner["metadata"]["namespace"]}
            chosen.setdefault(name(owner), {"metadata": metadata, "spec": template["spec"], "status": {}})
    for of, pod in chosen.items():
        if not pod["spec"].get("hostNetwork"):
            yield Source(of=of, end=_end(pod, spaces), spec=pod["spec"], uid=pod["metadata"].get("uid"))


def _targets(
    snapshot: Snapshot, service: Object, flow: Flow, pods: dict[str, list[Object]], spaces: dict[str, Object]
) -> Iterator[Target]:
    if (flow.namespace, flow.service) == ("default", "kubernetes"):
        yield Target(end=End(address=service["spec"]["clusterIP"]), port=flow.port)
        for each in snapshot.all("EndpointSlice.discovery.k8s.io"):
            if each["metadata"]["namespace"] == flow.namespace and each["metadata"]["name"] == flow.service:
                for endpoint in each.get("endpoints") or ():
                    yield Target(end=End(address=endpoint["addresses"][0]), port=each["ports"][0]["port"])
        return
    selector = service["spec"].get("selector")
    leads_to = {
        (each["port"], each.get("protocol", "TCP")): each.get("targetPort", each["port"])
        for each in service["spec"]["ports"]
    }
    wanted = leads_to.get((flow.port, flow.protocol))
    for pod in pods[flow.namespace] if selector else ():
        if selects({"matchLabels": selector}, pod["metadata"].get("labels") or {}):
            end = _end(pod, spaces)
            port = end.ports.get(wanted) if isinstance(wanted, str) else wanted
            if port is not None:
                yield Target(end=end, port=port, uid=pod["metadata"]["uid"])


def _end(pod: Object, spaces: dict[str, Object]) -> End:
    containers = (*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"])
    ports = (port for each in containers for port in each.get("ports") or ())
    namespace = pod["metadata"]["namespace"]
    return End(
        address=pod["status"].get("podIP"),
        namespace=namespace,
        labels=pod["metadata"].get("labels") or {},
        space=spaces.get(namespace, {}),
        ports={port["name"]: port["containerPort"] for port in ports if "name" in port},
        host=bool(pod["spec"].get("hostNetwork")),
    )


def _address(service: Object, flow: Flow, targets: Sequence[Target]) -> Address | None:
    if flow.protocol != "TCP":
        return None
    if service["spec"].get("clusterIP", "None") != "None":
        return str(service["spec"]["clusterIP"]), flow.port
    return (targets[0].end.address, targets[0].port) if targets[0].end.address else None


def _tried(those: Sequence[Way]) -> dict[int, bool]:
    """By index, whether each way that can be tried is open; not those behind which nothing listens.

    What fails is tried twice: a pod may just have begun.
    """
    running = reach.processes()
    calls = {
        index: (running[way.source.uid], way.address)
        for index, way in enumerate(those)
        if way.address and way.source.uid in running and all(_there(target, running) for target in way.targets)
    }
    answers = _answers(calls)
    failed = {index: call for index, call in calls.items() if not answers.get(index, True)}
    itself = {index: call for index in failed if (call := _call_of_itself(those[index].targets[0], running))}
    listening = _answers(itself)
    again = {index: call for index, call in failed.items() if index not in itself or listening.get(index)}
    return {index: answer for index, answer in answers.items() if index not in failed} | _answers(again)


def _there(target: Target, running: Mapping[str | None, int]) -> bool:
    return target.uid is None or target.uid in running


def _answers(calls: dict[int, tuple[int, Address]]) -> dict[int, bool]:
    wanted: dict[int, set[Address]] = defaultdict(set)
    for process, address in calls.values():
        wanted[process].add(address)
    got = reach.answered(wanted)
    return {index: got[call] for index, call in calls.items() if call in got}


def _call_of_itself(target: Target, running: Mapping[str | None, int]) -> tuple[int, Address] | None:
    """A call of the pod to itself, which no policy forbids; the API server has none, and is known to listen."""
    if target.uid in running and target.end.address:
        return running[target.uid], (target.end.address, target.port)
    return None


CHECKS = (
    Check(
        id="network",
        title="each connection that a pod needs is open by the NetworkPolicies of both ends",
        look=network,
    ),
)
