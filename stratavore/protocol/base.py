"""What all requests have in common: their shape, the words of their fields, and how a misfit is told."""

from typing import Annotated

import msgspec
from msgspec import Meta

from stratavore import bounds
from stratavore.errors import Invalid

# Not `.` and `..`, which cannot stand in the path of a URL; and `$` alone would let a line end pass.
Name = Annotated[str, Meta(pattern=r"^(?!\.{1,2}$)[A-Za-z0-9._][A-Za-z0-9._-]{0,63}(?!\n)$")]
Seconds = Annotated[float, Meta(ge=bounds.SECONDS.least, le=bounds.SECONDS.most)]
SomeSeconds = Annotated[float, Meta(ge=bounds.SOME_SECONDS.least, le=bounds.SOME_SECONDS.most)]
Count = Annotated[int, Meta(ge=bounds.RUNNERS_AT_ONCE.least, le=bounds.RUNNERS_AT_ONCE.most)]
Slots = Annotated[int, Meta(ge=bounds.SLOTS.least, le=bounds.SLOTS.most)]
Bytes = Annotated[int, Meta(ge=bounds.BYTES.least, le=bounds.BYTES.most)]
CpuPercent = Annotated[float, Meta(ge=bounds.CPU_PERCENT.least, le=bounds.CPU_PERCENT.most)]
Tokens = Annotated[int, Meta(ge=bounds.TOKENS.least, le=bounds.TOKENS.most)]
Usd = Annotated[float, Meta(ge=bounds.USD.least, le=bounds.USD.most)]
Percent = Annotated[float, Meta(ge=bounds.PERCENT.least, le=bounds.PERCENT.most)]
Text = Annotated[str, Meta(max_length=1000)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a caller sends."""


class Nothing(Request, frozen=True):
    """A request without fields."""


class Choose(Request, frozen=True):
    """A verb on runners that needs nothing else; `project` narrows a `*`."""

    project: str | None = None


_WORDS = {
    "`str`": "text",
    "`int`": "a whole number",
    "`float`": "a number",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "an object",
    "`null`": "nothing",
}


def refusal(error: msgspec.DecodeError | UnicodeDecodeError) -> Invalid:
    """A request that has not the right shape, told in words: msgspec's `… - at `$.field`` names the field."""
    what, _, place = str(error).partition(" - at `$")
    field = place.strip("`.")
    if "matching regex" in what:
        return Invalid(
            "a name has 1 to 64 letters, digits, dots, underscores and hyphens, and begins with no hyphen",
            remedy="choose another name",
        )
    for type_name, words in _WORDS.items():
        what = what.replace(type_name, words)
    if not what.startswith("JSON"):
        what = what[:1].lower() + what[1:]
    return Invalid(f"{field}: {what}" if field else what)
