"""docs/settings.md has a row for each setting, and for nothing that isn't one."""

import inspect
import re
from pathlib import Path

from thebes import Security
from thebes.settings import READERS

PAGE = (Path(__file__).parents[1] / "docs" / "settings.md").read_text()


def test_each_setting_has_one_row_in_the_order_of_the_code():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(READERS)


def test_each_setting_is_a_keyword_with_its_line_in_the_docstring():
    keywords = inspect.signature(Security).parameters
    described = re.findall(r"^    (\w+): ", inspect.getdoc(Security) or "", re.MULTILINE)
    assert READERS.keys() <= keywords.keys()
    assert set(READERS) <= set(described)
