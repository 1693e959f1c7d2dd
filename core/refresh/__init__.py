"""Month after month: new sales assigned, drift measured, refits gated and published."""

from core.refresh.options import refresh_config
from core.refresh.record import MonthRecord, Record, ledger_blocks
from core.refresh.run import RefreshResult, run_refresh

__all__ = [
    "MonthRecord",
    "Record",
    "RefreshResult",
    "ledger_blocks",
    "refresh_config",
    "run_refresh",
]
