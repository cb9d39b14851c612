"""Images as archives for `ctr images import`: pulled, or built from pinned sources under the name of upstream's.

archive("registry.k8s.io/pause:3.10", say=say)   the OCI archive, pulled or built where it is missing
tools("registry.k8s.io/pause:3.10")              the tools that this needs, for a caller that has them made meanwhile
how("registry.k8s.io/pause:3.10")                whether what the cache has was pulled or built
"""

from infra.images.archives import How, archive, cached, how, obtainable, tools
from infra.images.recipes import RECIPES, Recipe

__all__ = ["RECIPES", "How", "Recipe", "archive", "cached", "how", "obtainable", "tools"]
