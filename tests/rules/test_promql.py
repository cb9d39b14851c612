"""The reader of PromQL that the other tests rely on."""

import pytest

from tests.rules import promql


def test_metrics_are_told_from_all_other_words() -> None:
    """Metrics are what is neither a function, a label, a keyword nor text."""
    read = (
        'sum by (a) (rate(m_total{b="x", c=~"y|z"}[5m])) / on (a) group_left (d) max without (e) (f:g:h) or vector(1)'
    )
    assert promql.metrics(read) == {"m_total", "f:g:h"}


def test_metrics_are_found_in_matchers_of_names() -> None:
    """A matcher of __name__ stands for each metric that it names."""
    assert promql.metrics('max({__name__=~"m:(a|b):limit"})') == {"m:a:limit", "m:b:limit"}


def test_mutants_change_one_thing() -> None:
    """Thresholds, windows, operators, metrics and each part of a matcher change one at a time."""
    assert set(promql.mutants('rate(m{a=~"x|y"}[5m]) > 10')) == {
        'rate(m_x{a=~"x|y"}[5m]) > 10',
        'rate(m{a!~"x|y"}[5m]) > 10',
        'rate(m{a=~"x_x|y"}[5m]) > 10',
        'rate(m{a=~"x|y_x"}[5m]) > 10',
        'rate(m{a=~"x|y"}[600s]) > 10',
        'rate(m{a=~"x|y"}[150s]) > 10',
        'rate(m{a=~"x|y"}[5m]) < 10',
        'rate(m{a=~"x|y"}[5m]) > 12',
        'rate(m{a=~"x|y"}[5m]) > 8',
    }


def test_what_is_not_understood_is_refused() -> None:
    """Text that is no PromQL at all is not taken for an expression without metrics."""
    with pytest.raises(ValueError, match="not understood"):
        promql.tokens("up & down")
