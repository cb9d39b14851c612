"""The format of a release, pinned: every later version must read the files of earlier ones, and find them true."""

import json
from pathlib import Path

from infra import paths
from infra.release import canonical, releases, signatures
from infra.release.contents import contents

WRITTEN = Path(__file__).parent / "written"
"""A repository's root with a release that this format's first version wrote."""


def test_a_release_that_was_written_before_is_read() -> None:
    """Its digest and name are what they were, and it would be written so again. Another format is another schema."""
    (release,) = releases.known(WRITTEN)
    file = releases.file(WRITTEN, release.id)
    assert set(json.loads(file.read_bytes())) == {"schema", "id", "commit", "contents"}
    assert release.id == "r20260302-7322b2a2d764"
    assert release.digest == "7322b2a2d76435791283dd29e4ec1ccc60f9f2ecd5ef85184e8aff054c99ff0a"
    assert canonical.encode(release.document) == file.read_bytes()


def test_the_kinds_of_contents_and_their_fields_are_pinned() -> None:
    """A release of an older commit is told by that commit's code, and compared by this one's."""
    told = contents(paths.ROOT)
    assert set(told) == {"charts", "program", "environments", "upstream", "images", "models", "tools", "schema"}
    assert set(told["program"]) == {
        "infra",
        "components",
        "pipelines",
        "stacks",
        "kiban",
        "pyproject.toml",
        "uv.lock",
        "Pulumi.yaml",
    }
    fields = {
        kind: {field for named in told[kind].values() for field in named}
        for kind in ("environments", "upstream", "images")
    }
    assert fields == {
        "environments": {"values", "configuration", "models"},
        "upstream": {"version", "module", "sum", "published"},
        "images": {"tag", "digest", "environments"},
    }
    assert told["schema"] == {"release": releases.SCHEMA, "record": "kiban/record/v1"}


def test_what_an_older_version_is_asked_is_pinned() -> None:
    """Its own code answers to these words, and signatures are for these purposes."""
    assert releases.VERB == ("release", "contents")
    assert (signatures.RELEASE, signatures.APPROVAL, signatures.RECORD) == (
        "kiban-release",
        "kiban-approval",
        "kiban-record",
    )
