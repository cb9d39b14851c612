"""Where Kiban keeps things: the checkout, its state (KIBAN_HOME) and what it built (KIBAN_CACHE)."""

import os
from pathlib import Path

import platformdirs

ROOT = Path(__file__).resolve().parent.parent


def home() -> Path:
    """All state of this checkout: clusters, their stacks, passphrases. Default: `.kiban` in the checkout."""
    return Path(os.environ.get("KIBAN_HOME") or ROOT / ".kiban").absolute()


def cache() -> Path:
    """What is built or downloaded and can be shared by checkouts. Default: the user's cache folder."""
    return Path(os.environ.get("KIBAN_CACHE") or platformdirs.user_cache_path("kiban")).absolute()
