"""What an agent is told so that it exports its calls to us."""

import msgspec

from stratavore.discreet import Discreet


class Telemetry(Discreet, msgspec.Struct, frozen=True):
    """Where an agent may export its calls to by OTLP over HTTP, and with which headers."""

    endpoint: str
    headers: dict[str, str]
