"""Accelerators that Kiban knows, by the value of the node label nvidia.com/gpu.product, and how MIG cuts them.

Memory and MIG profiles: NVIDIA MIG user guide (driver 580), "Supported MIG Profiles"; where on a device an instance may
be: what `nvidia-smi mig -lgipp` prints there. An accelerator without MIG has no profiles.
"""

import dataclasses as dc
import itertools
from collections.abc import Iterator, Mapping, Sequence


@dc.dataclass(frozen=True, kw_only=True)
class Profile:
    """A MIG profile: what a GPU instance of it takes of a device, and where on the device it may be.

    compute: slices of the device's multiprocessors, the number before the g.
    memory: slices of its memory, one beside the other. starts: the memory slices at which they may begin.
    media: whether it takes the device's one set of media extensions (+me).
    """

    compute: int
    memory: int
    starts: tuple[int, ...]
    media: bool = False

    @property
    def most(self) -> int:
        """How many instances of it alone a device holds."""
        return 1 if self.media else len(self.starts)


@dc.dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One kind of device.

    memory_mib: what the label nvidia.com/gpu.memory says.
    family: the label nvidia.com/gpu.family.
    mig: its MIG profiles by name.
    """

    memory_mib: int
    family: str
    mig: Mapping[str, Profile] = dc.field(default_factory=dict)

    def fits(self, mix: Mapping[str, int]) -> bool:
        """Whether a device holds so many instances of each profile at once: there is a place for every one.

        Drivers before R510 had no 4g beside a 3g.
        """
        if any(count > self.mig[name].most for name, count in mix.items()):
            return False
        wanted = [self.mig[name] for name, count in mix.items() for _ in range(count)]
        if sum(profile.media for profile in wanted) > 1:
            return False
        return _placed(sorted(wanted, key=lambda profile: profile.memory, reverse=True), taken=0)

    def near(self, mix: Mapping[str, int]) -> list[dict[str, int]]:
        """Mixes of the same profiles that a device holds and that leave no room for more of them, the nearest first."""
        counts = itertools.product(*(range(self.mig[name].most + 1) for name in mix))
        fitting = [each for each in counts if any(each) and self.fits(dict(zip(mix, each, strict=True)))]
        full = [each for each in fitting if not any(_within(each, other) for other in fitting)]
        full.sort(key=lambda each: sum(abs(a - b) for a, b in zip(each, mix.values(), strict=True)))
        return [{name: count for name, count in zip(mix, each, strict=True) if count} for each in full]


def _placed(wanted: Sequence[Profile], *, taken: int) -> bool:
    """Whether each has a place of its own. taken: the memory slices that are gone, a bit each."""
    if not wanted:
        return True
    return any(_placed(wanted[1:], taken=taken | place) for place in _places(wanted[0]) if not place & taken)


def _places(profile: Profile) -> Iterator[int]:
    return (((1 << profile.memory) - 1) << start for start in profile.starts)


def _within(few: Sequence[int], many: Sequence[int]) -> bool:
    return few != many and all(a <= b for a, b in zip(few, many, strict=True))


def _sevenths(one: int, two: int, four: int, whole: int) -> dict[str, Profile]:
    """The profiles of a device of 7 compute and 8 memory slices, by how many GB so many memory slices have."""
    return {
        f"1g.{one}gb": Profile(compute=1, memory=1, starts=(0, 1, 2, 3, 4, 5, 6)),
        f"1g.{two}gb": Profile(compute=1, memory=2, starts=(0, 2, 4, 6)),
        f"2g.{two}gb": Profile(compute=2, memory=2, starts=(0, 2, 4)),
        f"3g.{four}gb": Profile(compute=3, memory=4, starts=(0, 4)),
        f"4g.{four}gb": Profile(compute=4, memory=4, starts=(0,)),
        f"7g.{whole}gb": Profile(compute=7, memory=8, starts=(0,)),
        f"1g.{one}gb+me": Profile(compute=1, memory=1, starts=(0, 1, 2, 3, 4, 5, 6), media=True),
    }


_FOURTHS = {
    "1g.6gb": Profile(compute=1, memory=1, starts=(0, 1, 2, 3)),
    "2g.12gb": Profile(compute=2, memory=2, starts=(0, 2)),
    "4g.24gb": Profile(compute=4, memory=4, starts=(0,)),
    "1g.6gb+me": Profile(compute=1, memory=1, starts=(0, 1, 2, 3), media=True),
    "2g.12gb+me": Profile(compute=2, memory=2, starts=(0, 2), media=True),
}
_EIGHTY = _sevenths(10, 20, 40, 80)

ACCELERATORS: Mapping[str, Accelerator] = {
    "Tesla-T4": Accelerator(memory_mib=15360, family="turing"),
    "NVIDIA-A10G": Accelerator(memory_mib=23028, family="ampere"),
    "NVIDIA-L4": Accelerator(memory_mib=23034, family="ada-lovelace"),
    "NVIDIA-L40S": Accelerator(memory_mib=46068, family="ada-lovelace"),
    "NVIDIA-A30": Accelerator(memory_mib=24576, family="ampere", mig=_FOURTHS),
    "NVIDIA-A100-SXM4-40GB": Accelerator(memory_mib=40960, family="ampere", mig=_sevenths(5, 10, 20, 40)),
    "NVIDIA-A100-SXM4-80GB": Accelerator(memory_mib=81920, family="ampere", mig=_EIGHTY),
    "NVIDIA-H100-80GB-HBM3": Accelerator(memory_mib=81559, family="hopper", mig=_EIGHTY),
    "NVIDIA-H200": Accelerator(memory_mib=143771, family="hopper", mig=_sevenths(18, 35, 71, 141)),
    "NVIDIA-B200": Accelerator(memory_mib=183359, family="blackwell", mig=_sevenths(23, 45, 90, 180)),
}
