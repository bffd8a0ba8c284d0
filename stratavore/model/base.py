"""What all public nouns have in common."""

from typing import NewType

import msgspec

ProjectName = NewType("ProjectName", str)
RunnerId = NewType("RunnerId", str)
RunKey = NewType("RunKey", str)
ShimId = NewType("ShimId", str)


class Public(msgspec.Struct, frozen=True, kw_only=True):
    """What may leave the daemon."""
