"""The requests of a model's window, read from the bucket and judged as a feed."""

import datetime as dt
import itertools

from . import bucket, feed, logged
from .feed import Feed
from .reference import Reference
from .watched import Watched


def read(model: Watched, reference: Reference, end: dt.datetime) -> Feed:
    """The rows that the model in service answered in the minutes before `end`, with the labels that have arrived."""
    begin = end - dt.timedelta(minutes=model.settings["window_minutes"])
    store = bucket.Bucket()
    labels = logged.labels(bucket.lines(store, store.keys(f"labels/{model.name}/", since=begin)))
    keys = itertools.chain.from_iterable(map(store.keys, logged.prefixes(model.name, begin, end)))
    rows = logged.rows(bucket.lines(store, keys), labels, version=model.version, begin=begin, end=end)
    return feed.judged(rows, reference, model.span)
