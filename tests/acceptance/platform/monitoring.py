"""Prometheus and Alertmanager of the shared cluster, asked as a person asks them."""

import contextlib
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.kubectl import Kubectl
from tests.checkout import Checkout

NAMESPACE = "kiban-monitoring"


@contextlib.contextmanager
def reached(platform: Checkout, service: str, port: int) -> Iterator[str]:
    """Yield the address of a Service of the monitoring namespace."""
    kubeconfig = Path(platform.run("cluster", "kubeconfig", "local").stdout.strip())
    with Kubectl(kubeconfig).port_forward(f"service/{service}", port, namespace=NAMESPACE) as here:
        yield f"http://127.0.0.1:{here}"


def asked(address: str, path: str, **query: str) -> Any:  # noqa: ANN401 - JSON
    """Return what an API answers."""
    with urllib.request.urlopen(f"{address}{path}?{urllib.parse.urlencode(query)}", timeout=30) as answer:  # noqa: S310 - a forwarded port
        return json.load(answer)
