"""What may be asked about projects."""

from msgspec import UNSET, UnsetType, field

from stratavore.model import (
    OnQuota,
    ProjectStatus,
)
from stratavore.protocol.base import Bytes, CpuPercent, Name, Request, Slots, Text


class ListProjects(Request, frozen=True):
    status: ProjectStatus | None = None


class NewProject(Request, frozen=True):
    name: Name
    path: str
    agent: str | None = None
    description: Text = ""
    tags: list[Text] = field(default_factory=list)
    max_runners: Slots | None = None
    max_memory_bytes: Bytes | None = None
    max_cpu_percent: CpuPercent | None = None
    on_quota: OnQuota | None = None


class EditProject(Request, frozen=True):
    """Changes of a project; `archived` puts it away or brings it back, `name` renames it."""

    name: Name | UnsetType = UNSET
    archived: bool | UnsetType = UNSET
    path: str | UnsetType = UNSET
    agent: str | UnsetType | None = UNSET
    description: Text | UnsetType = UNSET
    tags: list[Text] | UnsetType = UNSET
    max_runners: Slots | UnsetType = UNSET
    max_memory_bytes: Bytes | UnsetType | None = UNSET
    max_cpu_percent: CpuPercent | UnsetType | None = UNSET
    on_quota: OnQuota | UnsetType = UNSET
