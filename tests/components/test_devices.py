"""Device software as data: what is refused. What it becomes is in tests/charts/test_devices.py."""

from collections.abc import Callable

import pytest

from components._devices import DevicePlugin, DeviceSoftwareArgs, Driver, GpuOperator
from components.gpu_node_pools import GpuPool

WHOLE = GpuPool(name="t4", accelerator="Tesla-T4", gpus_per_node=1, nodes=1, time_slices=4)
CUT = GpuPool(name="cut", accelerator="NVIDIA-A30", gpus_per_node=1, nodes=1, mig_profile="1g.6gb")


@pytest.mark.parametrize(
    ("build", "given", "accepted"),
    [
        (lambda: Driver(version="latest", system="ubuntu24.04"), "version='latest'", "595.91.07"),
        (lambda: Driver(version="595.91.07", system="Ubuntu 24.04"), "system='Ubuntu 24.04'", "ubuntu24.04"),
        (lambda: GpuOperator(namespace="GPU"), "namespace='GPU'", "lower-case letters"),
        (lambda: DevicePlugin(namespace=""), "namespace=''", "lower-case letters"),
        (lambda: DevicePlugin(runtime_class=""), "runtime_class=''", "or None"),
        (lambda: DeviceSoftwareArgs(software=GpuOperator(), pools=()), "no gpu_pools", "or None"),
        (
            lambda: DeviceSoftwareArgs(software=DevicePlugin(), pools=(WHOLE, CUT)),
            "DevicePlugin, and pool 'cut' has MIG instances",
            "GpuOperator, or pools without MIG",
        ),
    ],
)
def test_a_bad_value_is_refused_with_what_was_given_and_what_is_accepted(
    build: Callable[[], object], given: str, accepted: str
) -> None:
    """In one line."""
    with pytest.raises(ValueError, match="accepted") as refusal:
        build()
    message = str(refusal.value)
    assert given in message
    assert accepted in message
    assert "\n" not in message


def test_each_software_serves_the_pools_that_it_can() -> None:
    """The operator all, the device plugin those without MIG."""
    assert DeviceSoftwareArgs(software=GpuOperator(), pools=(WHOLE, CUT))
    assert DeviceSoftwareArgs(software=DevicePlugin(), pools=(WHOLE,))
