"""The public nouns: what the API returns, the client types and the screens show.

Rule 1: a Struct here is the row, the JSON and the line on the screen; there is no second shape to convert to.
Rule 2: unknown is None, never zero, never an empty string.
Rule 3: times are UTC and aware; sizes are bytes, spans are seconds, CPU is percent of one core.
"""

from stratavore.model.base import ProjectName, Public, RunKey, RunnerId, ShimId
from stratavore.model.daemon import Acknowledged, DaemonStatus, DiskUse, Durability, Event, Pruned, Reconciled, Status
from stratavore.model.projects import OnQuota, Project, ProjectStatus
from stratavore.model.runners import (
    Activity,
    Desired,
    EndReason,
    Evidence,
    Explanation,
    GoesOnWith,
    Health,
    Launched,
    LaunchPlan,
    RestartPolicy,
    Run,
    Runner,
    RunnerState,
    Sent,
)
from stratavore.model.sessions import (
    NO_IMPORT,
    Approval,
    Decision,
    Held,
    ImportProgress,
    ModelUsage,
    Session,
    Transcript,
    TranscriptTurn,
)
from stratavore.model.spending import (
    Budget,
    BudgetHistory,
    BudgetPeriod,
    BudgetScope,
    OnExceeded,
    Usage,
    UsageBy,
    UsageRow,
    UsageTotal,
)

__all__ = [
    "NO_IMPORT",
    "Acknowledged",
    "Activity",
    "Approval",
    "Budget",
    "BudgetHistory",
    "BudgetPeriod",
    "BudgetScope",
    "DaemonStatus",
    "Decision",
    "Desired",
    "DiskUse",
    "Durability",
    "EndReason",
    "Event",
    "Evidence",
    "Explanation",
    "GoesOnWith",
    "Health",
    "Held",
    "ImportProgress",
    "LaunchPlan",
    "Launched",
    "ModelUsage",
    "OnExceeded",
    "OnQuota",
    "Project",
    "ProjectName",
    "ProjectStatus",
    "Pruned",
    "Public",
    "Reconciled",
    "RestartPolicy",
    "Run",
    "RunKey",
    "Runner",
    "RunnerId",
    "RunnerState",
    "Sent",
    "Session",
    "ShimId",
    "Status",
    "Transcript",
    "TranscriptTurn",
    "Usage",
    "UsageBy",
    "UsageRow",
    "UsageTotal",
]
