"""What a note must look like before it is kept; the pages and the API ask the same model."""

from typing import Annotated
from unicodedata import category

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

MAX_TITLE_CHARACTERS = 120
MAX_BODY_CHARACTERS = 4000
MAX_SEARCH_CHARACTERS = 120


def _one_line(text: str) -> str:
    return _readable(text, controls="")


def _many_lines(text: str) -> str:
    return _readable(text, controls="\t\n\r")


def _readable(text: str, *, controls: str) -> str:
    # A NUL or an escape sequence is harmless here, but not in every terminal that later shows it.
    if any(category(char) == "Cc" and char not in controls for char in text):
        raise PydanticCustomError("control_character", "control characters are not allowed")
    # Zero-width characters alone would make a note that nobody can see, nor aim at to delete.
    if not any(char.isprintable() and not char.isspace() for char in text):
        raise PydanticCustomError("invisible", "at least one visible character is required")
    return text


class NoteDraft(BaseModel):
    """A note that was not written yet. Text is kept as typed, apart from white space around it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    title: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_TITLE_CHARACTERS),
        AfterValidator(_one_line),
    ]
    body: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_BODY_CHARACTERS),
        AfterValidator(_many_lines),
    ]
