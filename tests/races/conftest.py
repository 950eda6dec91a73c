"""What races inside one process stand on: the rooms of reservation_service's own tests."""

from tests.reservation.conftest import bench, module_database_url, office, open_office, open_workshop
from tests.shared.short_logs import short_logs

__all__ = ["bench", "module_database_url", "office", "open_office", "open_workshop", "short_logs"]
