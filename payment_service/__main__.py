"""`python -m payment_service`: settings, schema check, app, server."""

from functools import partial

from payment_service.app import MIGRATIONS, create_app
from payment_service.settings import PaymentSettings
from shared.schema_age import require_current
from shared.serving import serve
from shared.wire import ImpatientProtocol

if __name__ == "__main__":
    serve(
        "payment_service",
        PaymentSettings,
        create_app,
        port=lambda settings: settings.payment_port,
        database_url=lambda settings: settings.payment_database_url,
        require_schema=partial(require_current, package=MIGRATIONS),
        http=ImpatientProtocol,
    )
