"""What a real node needs of the machine: its kernel, what it may do there, and a few system packages.

no_real_node()     why there can be none here, or None
ensure(say=say)    installs the packages that are missing
missing()          those packages
measured(folder)   whether the kubelet can say how much space is left

How all of it is told is doctor.py's matter, and what then runs on the node infra/clusters/embedded's.
"""

from infra.system.machine import Condition, conditions, measured, no_real_node
from infra.system.packages import PACKAGES, PATH, Package, cni_plugins, ensure, missing, remedy

__all__ = [
    "PACKAGES",
    "PATH",
    "Condition",
    "Package",
    "cni_plugins",
    "conditions",
    "ensure",
    "measured",
    "missing",
    "no_real_node",
    "remedy",
]
