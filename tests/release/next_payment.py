"""`python -m tests.release.next_payment`: payment_service as a later release may be: it says more than this one."""

import runpy

from payment_service import flags
from payment_service.payments import notifying, recording
from shared.flags import Flag
from shared.payment_contract import PaymentEvent


class _PaymentEvent(PaymentEvent):
    risk: str = "low"


if __name__ == "__main__":
    vars(flags)["FLAGS"] = (*flags.FLAGS, Flag("risk_scores", off_means="nobody is suspected"))
    for module in (notifying, recording):
        vars(module)["PaymentEvent"] = _PaymentEvent
    runpy.run_module("payment_service", run_name="__main__")
