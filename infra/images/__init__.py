"""Images that are built from pinned sources, each under the name of the upstream image whose place it takes.

archive("registry.k8s.io/pause:3.10", say=say)   an OCI archive for `ctr images import`, built where it is missing
tools("registry.k8s.io/pause:3.10")              the tools that this needs, for a caller that has them built meanwhile
"""

from infra.images.oci import archive, tools
from infra.images.recipes import RECIPES, Recipe

__all__ = ["RECIPES", "Recipe", "archive", "tools"]
