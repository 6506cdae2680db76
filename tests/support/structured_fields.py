"""Parse structured fields as strictly as RFC 9651 asks: Lists of Strings with Integer parameters."""

import re

_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_PARAMETER = re.compile(r"; *([a-z*][a-z0-9_.*-]*)=(-?[0-9]{1,15})(?![0-9.])")
_COMMA = re.compile(r"[ \t]*,[ \t]*")

Item = tuple[str, dict[str, int]]


def parse_list(field: str) -> list[Item]:
    """Return each item of a List with its parameters, in order (RFC 9651, 4.2.1).

    Raises:
        ValueError: It is no such List.
    """
    position = 0
    items: list[Item] = []
    while True:
        item = _STRING.match(field, position)
        if item is None:
            raise ValueError(f"no string at {position} of {field!r}")
        position = item.end()
        parameters: dict[str, int] = {}
        while (parameter := _PARAMETER.match(field, position)) is not None:
            parameters[parameter[1]] = int(parameter[2])
            position = parameter.end()
        items.append((re.sub(r"\\(.)", r"\1", item[1]), parameters))
        if position == len(field):
            return items
        comma = _COMMA.match(field, position)
        if comma is None:
            raise ValueError(f"no comma at {position} of {field!r}")
        position = comma.end()
