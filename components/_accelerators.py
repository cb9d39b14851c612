"""Accelerators that Kiban knows, by the value of the node label nvidia.com/gpu.product.

Memory and MIG profiles: NVIDIA MIG user guide, "Supported MIG profiles"; an accelerator without MIG has none.
"""

import dataclasses as dc
from collections.abc import Mapping


@dc.dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One kind of device.

    memory_mib: what the label nvidia.com/gpu.memory says.
    family: the label nvidia.com/gpu.family.
    mig: profile name to the number of such instances on one device.
    """

    memory_mib: int
    family: str
    mig: Mapping[str, int] = dc.field(default_factory=dict)


_EIGHTY = {"1g.10gb": 7, "1g.20gb": 4, "2g.20gb": 3, "3g.40gb": 2, "4g.40gb": 1, "7g.80gb": 1}

ACCELERATORS: Mapping[str, Accelerator] = {
    "Tesla-T4": Accelerator(memory_mib=15360, family="turing"),
    "NVIDIA-A10G": Accelerator(memory_mib=23028, family="ampere"),
    "NVIDIA-L4": Accelerator(memory_mib=23034, family="ada-lovelace"),
    "NVIDIA-L40S": Accelerator(memory_mib=46068, family="ada-lovelace"),
    "NVIDIA-A30": Accelerator(memory_mib=24576, family="ampere", mig={"1g.6gb": 4, "2g.12gb": 2, "4g.24gb": 1}),
    "NVIDIA-A100-SXM4-40GB": Accelerator(
        memory_mib=40960,
        family="ampere",
        mig={"1g.5gb": 7, "1g.10gb": 4, "2g.10gb": 3, "3g.20gb": 2, "4g.20gb": 1, "7g.40gb": 1},
    ),
    "NVIDIA-A100-SXM4-80GB": Accelerator(memory_mib=81920, family="ampere", mig=_EIGHTY),
    "NVIDIA-H100-80GB-HBM3": Accelerator(memory_mib=81559, family="hopper", mig=_EIGHTY),
    "NVIDIA-H200": Accelerator(
        memory_mib=143771,
        family="hopper",
        mig={"1g.18gb": 7, "1g.35gb": 4, "2g.35gb": 3, "3g.71gb": 2, "4g.71gb": 1, "7g.141gb": 1},
    ),
    "NVIDIA-B200": Accelerator(
        memory_mib=183359,
        family="blackwell",
        mig={"1g.23gb": 7, "1g.45gb": 4, "2g.45gb": 3, "3g.90gb": 2, "4g.90gb": 1, "7g.180gb": 1},
    ),
}
