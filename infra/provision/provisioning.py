"""From an environment's data to a cluster that is available, and back.

Every step looks at what is there and does the rest, so a run that was cut off is finished by the next.
"""

import base64
import contextlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from components._labels import ENVIRONMENT
from infra import paths
from infra.clusters import Cluster, files, kubeconfig
from infra.errors import BadInput, CouldNotRun, RunFailed
from infra.kubectl import Kubectl
from infra.provision import management, providers, record, templates, waiting
from infra.provision.providers import SIMULATED
from infra.provision.templates import Object
from stacks._schema import Environment, ProvisionedCluster

Say = Callable[[str], None]
_CLUSTERS, _MACHINES = f"clusters.{templates.GROUP}", f"machines.{templates.GROUP}"
_OF = f"{templates.GROUP}/cluster-name"
_EVERY = 2.0  # seconds between two looks
_APPLIED_WITHIN = 120.0  # seconds: webhooks of providers that have just started refuse for a while


class Provisioning:
    """The cluster of one environment. file: the kubeconfig that its context is written into.

    on_kind: whether the management cluster is one. Raises BadInput for data that nothing can be made of.
    """

    def __init__(self, environment: Environment, file: Path, *, on_kind: bool, say: Say) -> None:
        if not isinstance(environment.cluster, ProvisionedCluster):
            raise BadInput(
                f"{environment.name}: cluster={type(environment.cluster).__name__}(...); accepted: "
                "ProvisionedCluster(...), for a cluster that is made through Cluster API; nothing was changed"
            )
        self._name = environment.name
        self._made = environment.cluster
        self._file = file
        self._own = paths.home() / "provisioned" / self._name / "kubeconfig"
        self._say: Say = lambda line: say(f"{environment.name}: {line}")
        self._objects = templates.render(self._made, self._name)
        self._check(on_kind=on_kind)

    def plan(self) -> list[dict[str, Any]]:
        """What `run` would do, without a look at what the cloud has."""
        known = record.uid(self._name)
        where = management.name(self._name)
        steps = [
            ("management cluster", where, management.exists(self._name)),
            *((kind, provider, False) for kind, provider in self._providers().items()),
            *((each["kind"], each["metadata"]["name"], False) for each in self._objects),
            ("context", f"{self._made.context} in {self._file}", kubeconfig.has(self._file, self._made.context)),
            ("record", f"stacks/clusters/{record.file(self._name).name}", known is not None),
            *([("move", f"from {where} into {self._made.name}", False)] if self._made.self_managed else []),
        ]
        return [{"step": step, "what": what, "there": there} for step, what, there in steps]

    def run(self, seconds: float) -> list[dict[str, Any]]:
        """Make the cluster, or what is missing of it; seconds: how long to wait until it is available."""
        holder = self._holder()
        kubectl = Kubectl(holder.kubeconfig, holder.context)
        self._refuse_foreign(kubectl)
        self._say(f"applying {len(self._objects)} objects of stacks/clusters/{self._made.templates}")
        self._apply(kubectl)
        self._until_available(kubectl, seconds)
        cluster = self._take_kubeconfig(kubectl)
        if self._made.self_managed and holder.uid != cluster.uid:
            self._move_into(cluster, holder)
            kubectl = Kubectl(cluster.kubeconfig, cluster.context)
        return [self._item(cluster, self._machines(kubectl))]

    def delete(self, seconds: float) -> list[dict[str, Any]]:
        """Delete the cluster with its machines, and then what manages it.

        Raises BadInput where the platform is still on it: its volumes and load balancers would stay in the cloud.
        """
        there = self._there()
        self._refuse_in_use(there)
        own = there if there and self._cluster(Kubectl(there.kubeconfig, there.context)) else None
        if own or management.exists(self._name):
            holder = management.up(self._name, self._made, say=self._say)
            kubectl = Kubectl(holder.kubeconfig, holder.context)
            if own and own.uid != holder.uid:
                self._say("moving Cluster API's objects out of the cluster before it goes")
                providers.move(own, holder, self._made.namespace)
            self._refuse_foreign(kubectl)
            self._until_gone(kubectl, seconds)
            management.down(self._name, say=self._say)
        elif record.uid(self._name):
            raise CouldNotRun(
                f"{self._name}: nothing that manages its cluster is in reach (context {self._made.context} of "
                f"{self._file}); accepted: with the file that `kiban provision {self._name}` has written; nothing was "
                "changed"
            )
        kubeconfig.take(self._file, self._made.context)
        record.forget(self._name)
        shutil.rmtree(self._own.parent, ignore_errors=True)
        with contextlib.suppress(OSError):  # other environments' are there, or none was
            self._own.parent.parent.rmdir()
        return [{"deleted": self._made.name, "context": self._made.context, "evidence": self._evidence}]

    def _holder(self) -> Cluster:
        """The cluster that has the Cluster object, or is to have it: the cluster itself, or the management cluster."""
        there = self._there()
        own = there if there and self._cluster(Kubectl(there.kubeconfig, there.context)) else None
        if own and not management.exists(self._name):
            return own
        source = management.up(self._name, self._made, say=self._say)
        if own is None or own.uid == source.uid:
            return source
        self._move_into(own, source)  # a run before was cut off there
        return own

    @property
    def _evidence(self) -> str:
        return "simulated" if self._made.infrastructure == SIMULATED else "executed"

    def _check(self, *, on_kind: bool) -> None:
        unset = [each for each in self._made.variables if not os.environ.get(each)]
        if unset:
            raise BadInput(
                f"{self._name}: {', '.join(unset)} not set; accepted: the environment variables that cluster.variables "
                "names, with the provider's credentials; nothing was changed"
            )
        management.check(self._name, self._made, on_kind=on_kind)
        if record.uid(self._name) is None and kubeconfig.has(self._file, self._made.context):
            raise BadInput(
                f"{self._name}: {self._file} has a context {self._made.context!r} already, of another cluster; "
                "accepted: another file, or another cluster.context; nothing was changed"
            )

    def _providers(self) -> Mapping[str, str]:
        simulated = self._made.infrastructure == SIMULATED
        return {"InfrastructureProvider": SIMULATED} if simulated else providers.asked(self._made)

    def _refuse_foreign(self, kubectl: Kubectl) -> None:
        found = self._cluster(kubectl)
        owner = found["metadata"].get("labels", {}).get(ENVIRONMENT) if found else self._name
        if owner != self._name:
            raise BadInput(
                f"{self._name}: Cluster {self._made.name} of namespace {self._made.namespace} is "
                f"{f'environment {owner}' if owner else 'nobody'}'s; accepted: another cluster.name or namespace; "
                "nothing of it was changed"
            )

    def _refuse_in_use(self, cluster: Cluster | None) -> None:
        used = (
            Kubectl(cluster.kubeconfig, cluster.context).get("namespaces", selector=f"{ENVIRONMENT}={self._name}")
            if cluster
            else ()
        )
        if used:
            names = ", ".join(each["metadata"]["name"] for each in used[:3])
            raise BadInput(
                f"{self._name}: the platform is on its cluster (namespaces {names}, ...); accepted: after "
                f"`kiban destroy {self._name}`, so that its volumes and load balancers do not stay; nothing was changed"
            )

    def _apply(self, kubectl: Kubectl) -> None:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._made.namespace}}
        deadline = time.monotonic() + _APPLIED_WITHIN
        while True:
            try:
                kubectl.apply([namespace, *self._objects], field_manager="kiban")
            except RunFailed as failed:
                if "failed calling webhook" not in str(failed) or time.monotonic() > deadline:
                    raise RunFailed(
                        f"{self._name}: {failed}; put it right in the templates and run the same again"
                    ) from failed
                time.sleep(_EVERY)
            else:
                return

    def _until_available(self, kubectl: Kubectl, seconds: float) -> None:
        """Wait, saying what for whenever that changes."""

        def state() -> str | None:
            found = self._cluster(kubectl)
            if found and waiting.available(found):
                return None
            return waiting.waits_for(found or {}, self._events(kubectl))

        self._wait(state, seconds, f"Cluster {self._made.name} is not available")

    def _until_gone(self, kubectl: Kubectl, seconds: float) -> None:
        if self._cluster(kubectl):
            self._say(f"deleting Cluster {self._made.name} with its machines")
            kubectl.run("delete", _CLUSTERS, self._made.name, f"--namespace={self._made.namespace}", "--wait=false")

        def state() -> str | None:
            return f"machines: {len(self._machines(kubectl))} left" if self._cluster(kubectl) else None

        self._wait(state, seconds, f"Cluster {self._made.name} is not gone")

    def _wait(self, state: Callable[[], str | None], seconds: float, problem: str) -> None:
        """Until there is no state; one that stays is told once."""
        deadline, told = time.monotonic() + seconds, ""
        while (now := state()) is not None:
            if now != told:
                self._say(told := now)
            if time.monotonic() > deadline:
                raise RunFailed(
                    f"{self._name}: {problem} within {seconds:.0f} s ({now}); run the same again to go on waiting"
                )
            time.sleep(_EVERY)

    def _take_kubeconfig(self, kubectl: Kubectl) -> Cluster:
        """Write the cluster's context into the user's file, once the UID by which it is known is written down."""
        secret = kubectl.get("secret", f"{self._made.name}-kubeconfig", namespace=self._made.namespace)[0]
        given = yaml.safe_load(base64.b64decode(secret["data"]["value"]))
        cluster = self._reached(kubeconfig.only(given, given["current-context"], called=self._made.context))
        record.keep(self._name, cluster.uid)
        kubeconfig.put(self._file, self._made.context, given)
        self._say(f"context {self._made.context} is in {self._file}; commit stacks/clusters/{self._name}.uid")
        return cluster

    def _move_into(self, cluster: Cluster, source: Cluster) -> None:
        """Let the cluster manage itself, and end the one that managed it until now."""
        self._say("moving Cluster API's objects into the cluster")
        if self._made.infrastructure != SIMULATED:
            providers.install(self._made, cluster, say=self._say)
        if self._cluster(Kubectl(source.kubeconfig, source.context)):
            providers.move(source, cluster, self._made.namespace)
        kubectl = Kubectl(cluster.kubeconfig, cluster.context)
        options = (f"--namespace={self._made.namespace}", "--type=merge", '--patch={"spec":{"paused":false}}')
        kubectl.run("patch", _CLUSTERS, self._made.name, *options)  # a move that was cut off leaves it paused
        management.down(self._name, say=self._say)

    def _there(self) -> Cluster | None:
        """The cluster as the user's file leads to it; None where there is none yet, or it does not answer."""
        known = record.uid(self._name)
        if known is None or not kubeconfig.has(self._file, self._made.context):
            return None
        try:
            cluster = self._reached(kubeconfig.only(kubeconfig.read(self._file), self._made.context))
        except RunFailed as failed:
            self._say(f"context {self._made.context} of {self._file} does not answer ({failed})")
            return None
        if cluster.uid != known:
            raise BadInput(
                f"{self._name}: context {self._made.context} of {self._file} leads to another cluster: UID of "
                f"kube-system {cluster.uid}, expected {known}; accepted: the file that this environment's cluster was "
                "written into; nothing was changed"
            )
        return cluster

    def _reached(self, document: Object) -> Cluster:
        """The cluster of a kubeconfig, by a copy of Kiban's own."""
        self._own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.replace(self._own, yaml.safe_dump(document, sort_keys=False))
        kubectl = Kubectl(self._own, self._made.context)
        uid = kubectl.get("namespace", "kube-system")[0]["metadata"]["uid"]
        return Cluster(name=self._name, kubeconfig=self._own, context=self._made.context, uid=uid)

    def _cluster(self, kubectl: Kubectl) -> Object | None:
        """The Cluster object; None where there is none, or no such kind."""
        if not kubectl.run("get", "customresourcedefinition", _CLUSTERS, "--ignore-not-found", "--output=name"):
            return None
        found = kubectl.get(_CLUSTERS, namespace=self._made.namespace)
        return next((each for each in found if each["metadata"]["name"] == self._made.name), None)

    def _machines(self, kubectl: Kubectl) -> list[Object]:
        return kubectl.get(_MACHINES, namespace=self._made.namespace, selector=f"{_OF}={self._made.name}")

    def _events(self, kubectl: Kubectl) -> list[Object]:
        return kubectl.get("events.events.k8s.io", namespace=self._made.namespace)

    def _item(self, cluster: Cluster, machines: list[Object]) -> dict[str, Any]:
        return {
            "cluster": self._made.name,
            "context": self._made.context,
            "kubeconfig": str(self._file),
            "uid": cluster.uid,
            "machines": len(machines),
            "evidence": self._evidence,
        }
