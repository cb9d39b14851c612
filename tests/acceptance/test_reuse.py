"""The components serve a program that is not Kiban's: 20 lines, two components, one `pulumi up`."""

import json
from pathlib import Path

from tests.checkout import Checkout

PROJECT = "name: foreign\nruntime: python\n"
PROGRAM = """\
import os
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s

from components.foundation import Foundation, FoundationArgs
from components.tenancy import Team, Tenancy, TenancyArgs

kube = k8s.Provider("kube", kubeconfig=pulumi.Output.secret(Path(os.environ["KUBECONFIG"]).read_text()))
opts = pulumi.ResourceOptions(providers=[kube])
foundation = Foundation("base", FoundationArgs(priorities=(("urgent", 1000),)), opts=opts)
tenancy = Tenancy(
    "teams",
    TenancyArgs(teams=(Team(name="alpha", owner="alpha-oncall"), Team(name="beta", owner="beta-oncall"))),
    foundation=foundation,
    opts=opts,
)
pulumi.export("namespaces", tenancy.namespaces)
"""


def test_a_foreign_program_composes_two_components(checkout: Checkout, tmp_path: Path) -> None:
    """Another project, with its own provider and backend and without Kiban's wiring, gets namespaces from them."""
    assert len(PROGRAM.splitlines()) <= 20
    (tmp_path / "Pulumi.yaml").write_text(PROJECT)
    (tmp_path / "__main__.py").write_text(PROGRAM)
    (tmp_path / "state").mkdir()
    checkout.run("cluster", "up", "foreign")
    try:
        done = checkout.shell(f"""
            eval "$(./kiban env local --on foreign)"
            unset PULUMI_STACK PULUMI_OPTION_CONFIG_FILE PULUMI_OPTION_PRESERVE_CONFIG KIBAN_CLUSTER
            export PULUMI_BACKEND_URL=file://{tmp_path}/state PYTHONPATH="$PWD"
            cd {tmp_path}
            pulumi stack init test --non-interactive >&2
            pulumi up -s test --yes --non-interactive >&2
            pulumi stack output -s test --json
        """)
        assert json.loads(done.stdout) == {"namespaces": {"alpha": "team-alpha", "beta": "team-beta"}}
        found = checkout.kubectl("foreign", "get", "namespaces", "-l", "kiban.dev/team", "-o", "name")
        assert found.split() == ["namespace/team-alpha", "namespace/team-beta"]
    finally:
        checkout.run("cluster", "down", "foreign")
