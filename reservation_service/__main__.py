"""`python -m reservation_service`: settings, schema check, app, server."""

from functools import partial

from reservation_service.app import MIGRATIONS, create_app
from reservation_service.settings import ReservationSettings
from shared.schema_age import require_current
from shared.serving import serve
from shared.wire import ImpatientProtocol

if __name__ == "__main__":
    serve(
        "reservation_service",
        ReservationSettings,
        create_app,
        port=lambda settings: settings.reservation_port,
        database_url=lambda settings: settings.reservation_database_url,
        require_schema=partial(require_current, package=MIGRATIONS),
        http=ImpatientProtocol,
    )
