"""Which tags of EC2 are meant. Pure.

`ec2_tags` is AND over keys of OR over values, `ec2_tag_sets` AND over sets of OR over everything in them. In both the
key `*` stands for any key, the value `*` for any value; values may hold `*` and `?`, as in EC2's own filters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from shiftwork_coordinator.model.settings import Instances

ANY = "*"
Wanted = Mapping[str, Sequence[str]]
Filter = tuple[str, tuple[str, ...]]


def matches(tags: Mapping[str, str], wanted: Instances) -> bool:
    """Whether an instance with these tags is meant; never so where nothing is wanted."""
    if wanted.ec2_tag_sets:
        return all(any(_one(tags, *entry) for entry in each.items()) for each in wanted.ec2_tag_sets)
    return bool(wanted.ec2_tags) and all(_one(tags, *entry) for entry in wanted.ec2_tags.items())


def _one(tags: Mapping[str, str], key: str, patterns: Iterable[str]) -> bool:
    values = list(tags.values()) if key == ANY else [tags[key]] if key in tags else []
    return any(_expression(pattern).fullmatch(value) for pattern in patterns for value in values)


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    """`*` is any characters, `?` one or none, a backslash before either takes it as it is. Case counts."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    meaning = {"*": ".*", "?": ".?"}
    return re.compile("".join(meaning.get(part) or re.escape(part[-1]) for part in parts), re.DOTALL)


def literal(text: str) -> str:
    """As a filter's value that means this text alone."""
    return re.sub(r"([\\*?])", r"\\\1", text)


def narrowing(wanted: Instances) -> list[Filter]:
    """EC2's filters that leave out what cannot match: all that can be said there. `matches` decides.

    EC2 joins filters by AND and a filter's values by OR, takes no filter twice, and cannot ask for a value of any key.
    """
    filters: dict[str, tuple[str, ...]] = {}
    for each in wanted.ec2_tag_sets or ({key: values} for key, values in wanted.ec2_tags.items()):
        if ANY in each:
            continue
        if len(each) == 1:
            ((key, values),) = each.items()
            filters.setdefault(f"tag:{key}", tuple(values))
        else:
            filters.setdefault("tag-key", tuple(map(literal, each)))
    return list(filters.items())
