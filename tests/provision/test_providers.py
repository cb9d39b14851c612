"""What clusterctl's failures are made of for the user. Its texts are those of Cluster API 1.14.2 (cmd/clusterctl)."""

import pytest

from infra.errors import BadInput, CouldNotRun, KibanError, RunFailed
from infra.provision import providers


@pytest.mark.parametrize(
    ("output", "error", "said"),
    [
        (
            (
                "Error: value for variables [AWS_B64ENCODED_CREDENTIALS] is not set. "
                "Please set the value using os environment variables or the clusterctl config file\n"
            ),
            BadInput,
            r"a provider needs AWS_B64ENCODED_CREDENTIALS, which nothing sets; accepted: .* cluster.variables",
        ),
        (
            (
                "Error: failed to get configuration for the InfrastructureProvider with name nimbus. "
                "Please check the provider name and/or add configuration for new providers\n"
            ),
            BadInput,
            "InfrastructureProvider 'nimbus' is not known; accepted: a name of `clusterctl config repositories`",
        ),
        (
            "Error: failed to get provider components: release not found for version v9.9.9, please retry later\n",
            BadInput,
            "no such version .*v9.9.9.*accepted: one that its project has released",
        ),
        ('Error: Get "https://api.github.com": dial tcp: lookup failed\n', CouldNotRun, "no network .*with one"),
        ("log\nError: timed out\n", RunFailed, "clusterctl init: timed out"),
        ("", RunFailed, "clusterctl init: no word"),
    ],
)
def test_a_failure_is_told_in_one_line(output: str, error: type[KibanError], said: str) -> None:
    """What is missing, unknown or out of reach, and what to do."""
    found = providers.failure("init", output)
    assert type(found) is error
    with pytest.raises(error, match=said):
        raise found
