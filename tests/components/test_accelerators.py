"""MIG profiles: how many of each, and which mixes, a device holds, by what is published of them."""

import itertools
from collections import Counter

import pytest

from components._accelerators import ACCELERATORS

A100 = "NVIDIA-A100-SXM4-80GB"
ALONE = {
    "NVIDIA-A30": {"1g.6gb": 4, "1g.6gb+me": 1, "2g.12gb": 2, "2g.12gb+me": 1, "4g.24gb": 1},
    "NVIDIA-A100-SXM4-40GB": {
        "1g.5gb": 7,
        "1g.5gb+me": 1,
        "1g.10gb": 4,
        "2g.10gb": 3,
        "3g.20gb": 2,
        "4g.20gb": 1,
        "7g.40gb": 1,
    },
    A100: {"1g.10gb": 7, "1g.10gb+me": 1, "1g.20gb": 4, "2g.20gb": 3, "3g.40gb": 2, "4g.40gb": 1, "7g.80gb": 1},
    "NVIDIA-H100-80GB-HBM3": {
        "1g.10gb": 7,
        "1g.10gb+me": 1,
        "1g.20gb": 4,
        "2g.20gb": 3,
        "3g.40gb": 2,
        "4g.40gb": 1,
        "7g.80gb": 1,
    },
    "NVIDIA-H200": {
        "1g.18gb": 7,
        "1g.18gb+me": 1,
        "1g.35gb": 4,
        "2g.35gb": 3,
        "3g.71gb": 2,
        "4g.71gb": 1,
        "7g.141gb": 1,
    },
    "NVIDIA-B200": {
        "1g.23gb": 7,
        "1g.23gb+me": 1,
        "1g.45gb": 4,
        "2g.45gb": 3,
        "3g.90gb": 2,
        "4g.90gb": 1,
        "7g.180gb": 1,
    },
}
"""MIG user guide, "Supported MIG Profiles": the number of instances available; mig-parted's `all-PROFILE` likewise."""
BALANCED = {
    "NVIDIA-A30": {"1g.6gb": 2, "2g.12gb": 1},
    "NVIDIA-A100-SXM4-40GB": {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1},
    A100: {"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1},
    "NVIDIA-H100-80GB-HBM3": {"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1},
    "NVIDIA-H200": {"1g.18gb": 2, "2g.35gb": 1, "3g.71gb": 1},
    "NVIDIA-B200": {"1g.23gb": 2, "2g.45gb": 1, "3g.90gb": 1},
}
"""mig-parted 0.15, deployments/systemd/config-default.yaml: `all-balanced`."""


def test_an_accelerator_has_the_profiles_that_are_published() -> None:
    """All of them, and so many of each alone; one more does not fit."""
    known = {name: {each: of.most for each, of in one.mig.items()} for name, one in ACCELERATORS.items() if one.mig}
    assert known == ALONE
    for name, profiles in ALONE.items():
        for profile, count in profiles.items():
            assert ACCELERATORS[name].fits({profile: count})
            assert not ACCELERATORS[name].fits({profile: count + 1})


@pytest.mark.parametrize("name", BALANCED)
def test_the_balanced_mix_of_the_partition_editor_fits(name: str) -> None:
    """The mix that MIG manager ships for each device."""
    assert ACCELERATORS[name].fits(BALANCED[name])


@pytest.mark.parametrize(
    ("mix", "fits"),
    [
        ({"4g.40gb": 1, "3g.40gb": 1}, True),
        ({"3g.40gb": 2}, True),
        ({"3g.40gb": 1, "1g.10gb": 4}, True),
        ({"2g.20gb": 3, "1g.20gb": 1}, True),
        ({"1g.20gb": 4}, True),
        ({"4g.40gb": 1, "2g.20gb": 1, "1g.10gb+me": 1}, True),
        ({"4g.40gb": 2}, False),
        ({"3g.40gb": 2, "1g.10gb": 1}, False),  # 7 slices of compute and 8 of memory are there, and no place
        ({"3g.40gb": 1, "2g.20gb": 1, "1g.10gb": 3}, False),
        ({"2g.20gb": 3, "1g.10gb": 2}, False),
        ({"1g.20gb": 4, "1g.10gb": 1}, False),
        ({"1g.10gb": 6, "1g.10gb+me": 2}, False),
        ({"7g.80gb": 1, "1g.10gb": 1}, False),
    ],
)
def test_a_mix_fits_where_every_instance_has_a_place(mix: dict[str, int], fits: bool) -> None:  # noqa: FBT001
    """Counting slices is not enough: a 3g takes four slices of memory, and none begins in the last but a 1g."""
    assert ACCELERATORS[A100].fits(mix) is fits


def test_media_extensions_are_there_once() -> None:
    """Of an A30 two profiles have them."""
    assert ACCELERATORS["NVIDIA-A30"].fits({"1g.6gb": 1, "1g.6gb+me": 1, "2g.12gb": 1})
    assert not ACCELERATORS["NVIDIA-A30"].fits({"1g.6gb+me": 1, "2g.12gb+me": 1})


def test_every_mix_that_fits_is_one_of_the_guides_diagram_and_no_other() -> None:
    """All 1,920 counts, against the diagram of the MIG user guide, read as two halves of two quarters each.

    The last quarter has no 2g, since the device has but seven slices of compute.
    """
    quarter = [{"2g.20gb": 1}, {"1g.20gb": 1}, {"1g.10gb": 2}]
    last = [{"1g.20gb": 1}, {"1g.10gb": 1}]
    left = [{"4g.40gb": 1}, {"3g.40gb": 1}, *(Counter(a) + Counter(b) for a in quarter for b in quarter)]
    right = [{"3g.40gb": 1}, *(Counter(a) + Counter(b) for a in quarter for b in last)]
    whole = [Counter({"7g.80gb": 1}), *(Counter(a) + Counter(b) for a in left for b in right)]
    device = ACCELERATORS[A100]
    plain = {name: profile.most for name, profile in device.mig.items() if not profile.media}
    for counts in itertools.product(*(range(most + 1) for most in plain.values())):
        mix = dict(zip(plain, counts, strict=True))
        assert device.fits(mix) is any(Counter(mix) <= each for each in whole), mix
        if mix["1g.10gb"]:
            extended = mix | {"1g.10gb": mix["1g.10gb"] - 1, "1g.10gb+me": 1}
            assert device.fits(extended) is device.fits(mix), extended


@pytest.mark.parametrize("name", ALONE)
def test_no_mix_takes_more_than_the_device_has(name: str) -> None:
    """Seven slices of compute, of an A30 four: places of memory alone never allow more."""
    device = ACCELERATORS[name]
    compute = max(profile.compute for profile in device.mig.values())
    for mix in device.near(dict.fromkeys(device.mig, 0)):
        assert sum(device.mig[profile].compute * count for profile, count in mix.items()) <= compute


def test_what_is_near_to_a_mix_fits_and_leaves_no_room() -> None:
    """Of the same profiles, the least different first."""
    device = ACCELERATORS[A100]
    assert device.near({"3g.40gb": 2, "1g.10gb": 1}) == [
        {"3g.40gb": 2},
        {"3g.40gb": 1, "1g.10gb": 4},
        {"1g.10gb": 7},
    ]
    assert device.near({"4g.40gb": 2}) == [{"4g.40gb": 1}]
