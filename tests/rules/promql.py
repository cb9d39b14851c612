"""PromQL as the tests of rules need it: its words, the metrics that it names, what it would be with one change.

Not a parser: promtool says whether an expression is PromQL.
"""

import re
from collections.abc import Iterator, Sequence

_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|\[[^\]]*\]|==|!=|=~|!~|>=|<=|[<>=+\-*/%^(){},]|[0-9][0-9.]*|[A-Za-z_:][\w:]*|\s+'
)
_NAME = re.compile(r"[A-Za-z_:][\w:]*")
_WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"}
_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_SWAPS = {
    ">": "<",
    "<": ">",
    ">=": "<",
    "<=": ">",
    "==": "!=",
    "!=": "==",
    "+": "-",
    "-": "+",
    "*": "+",  # not /, which is the same where the factor is 1
    "/": "*",
    "and": "unless",
    "unless": "and",
    "or": "and",
}
_MATCHERS = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def tokens(expression: str) -> list[str]:
    """The expression's words, which make it up again when joined. Raises ValueError for what is none."""
    found = _TOKEN.findall(expression)
    if "".join(found) != expression:
        raise ValueError(f"not understood: {expression!r}")
    return found


def metrics(expression: str) -> set[str]:
    """The metrics that an expression reads, and those that its matchers of __name__ allow."""
    words = tokens(expression)
    places = _places(words)
    named = {words[index] for index, place in enumerate(places) if place == "metric"}
    for names in re.findall(r'__name__=~"([^"]*)"', expression):
        start, _, rest = names.partition("(")
        middle, _, end = rest.partition(")")
        named |= {f"{start}{each}{end}" for each in middle.split("|")}
    return named


def mutants(expression: str) -> Iterator[str]:
    """The expression with one thing changed, for each threshold, window, operator, metric, matcher and string in it."""
    words = tokens(expression)
    for index, place in enumerate(_places(words)):
        for changed in _changed(words[index], place):
            yield "".join([*words[:index], changed, *words[index + 1 :]])


def times(duration: str, factor: float) -> str:
    """A duration of Prometheus' of one unit, times the factor."""
    return f"{round(int(duration[:-1]) * _SECONDS[duration[-1]] * factor)}s"


def _changed(word: str, place: str) -> list[str]:
    made: list[str] = []
    match place:
        case "metric":
            made = [f"{word}_x"]
        case "operator":
            made = [_SWAPS[word]]
        case "matcher":
            made = [_MATCHERS[word]]
        case "text":
            inner = word[1:-1]
            parts = re.split(r"([|()])", inner) if "|" in inner else [inner]
            made = [
                '"' + "".join([*parts[:at], f"{part}_x", *parts[at + 1 :]]) + '"'
                for at, part in enumerate(parts)
                if part not in {"|", "(", ")"} and (part or len(parts) == 1)
            ]
        case "window":
            made = [f"[{times(word[1:-1], 2)}]", f"[{times(word[1:-1], 0.5)}]"]
        case "number":
            made = ["1", "-1"] if float(word) == 0 else [f"{float(word) * 1.2:g}", f"{float(word) * 0.8:g}"]
    return made


def _places(words: Sequence[str]) -> list[str]:
    """What each word is: metric, operator, matcher, text, window, number, or nothing of these."""
    found = []
    lists, inside, last = 0, False, ""
    for index, word in enumerate(words):
        if word == "(" and (lists or last in _LISTS):
            lists += 1
        elif word == ")" and lists:
            lists -= 1
        inside = word == "{" or (inside and word != "}")
        place = ("matcher" if word in _MATCHERS else "") if inside and word[0] != '"' else _place(word)
        found.append("" if place == "metric" and (lists or _called(words, index)) else place)
        last = last if word.isspace() else word
    return found


def _place(word: str) -> str:
    """What a word outside braces is; a metric may be a label or a function instead."""
    if word in _SWAPS:
        return "operator"
    if word[0].isdigit():
        return "number"
    if _NAME.fullmatch(word) and word not in _WORDS:
        return "metric"
    return {'"': "text", "[": "window"}.get(word[0], "")


def _called(words: Sequence[str], index: int) -> bool:
    """Whether the name is a function or an aggregation."""
    after = next((word for word in words[index + 1 :] if not word.isspace()), "")
    return after in {"(", "by", "without"}
