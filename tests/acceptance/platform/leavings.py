"""What a run could leave behind on the machine."""

from pathlib import Path

import psutil
from pyroute2 import IPRoute, netns

from tests.checkout import Checkout


def leavings(checkout: Checkout) -> dict[str, set[str]]:
    """Return what a run could leave behind: processes, interfaces, namespaces, mounts, files outside the cache."""
    with IPRoute() as route:
        interfaces = {link.get_attr("IFLA_IFNAME") for link in route.get_links()}
    marker = str(checkout.root)
    processes = {
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] and marker in " ".join(process.info["cmdline"])
    }
    home = Path.home()
    files = {
        str(path)
        for path in [
            *(
                p
                for p in checkout.root.rglob("*")
                if not {".venv", "__pycache__"} & set(p.relative_to(checkout.root).parts)
            ),
            *home.glob(".pulumi/**/*"),
            *home.glob(".kube/**/*"),
            *Path("/run").glob("kiban/**/*"),
        ]
    }
    return {
        "processes": processes,
        "interfaces": interfaces,
        "namespaces": set(netns.listnetns()),
        "mounts": {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()},
        "files": files,
    }
