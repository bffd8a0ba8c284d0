"""Projects, as the API tells of them."""

from datetime import datetime
from enum import StrEnum

from stratavore.model.base import Public


class ProjectStatus(StrEnum):
    """A report for people: has it living runners, or was it put away?"""

    ACTIVE = "active"
    IDLE = "idle"
    ARCHIVED = "archived"


class OnQuota(StrEnum):
    """What happens to a project's runners when its memory or CPU quota is exceeded."""

    WARN = "warn"
    PAUSE = "pause"
    STOP = "stop"


class Project(Public, frozen=True):
    """A directory with a name and quotas."""

    name: str
    path: str
    agent: str | None
    description: str
    tags: list[str]
    status: ProjectStatus
    runners: int
    max_runners: int
    max_memory_bytes: int | None
    max_cpu_percent: float | None
    on_quota: OnQuota
    created_at: datetime
    archived_at: datetime | None
