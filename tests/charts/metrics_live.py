"""Prints the names of the metrics that live Prometheis have, one a line, sorted; environments differ in what they have.

    kubectl port-forward -n kiban-monitoring service/prometheus 9090 &
    python -m tests.charts.metrics_live http://127.0.0.1:9090 > tests/charts/metrics_live.txt

What rules record (with a colon) and what Prometheus makes of alerts are left out: they prove no exporter.
"""

import json
import sys
import urllib.request


def names(*addresses: str) -> list[str]:
    """The names, without those that are recorded."""
    found: set[str] = set()
    for address in addresses:
        with urllib.request.urlopen(f"{address}/api/v1/label/__name__/values", timeout=30) as answer:  # noqa: S310 - given
            found.update(json.load(answer)["data"])
    return sorted(name for name in found if ":" not in name and not name.startswith("ALERTS"))


if __name__ == "__main__":
    sys.stdout.write("\n".join([*names(*sys.argv[1:]), ""]))
