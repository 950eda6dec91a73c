"""The hand on both services' flags: it turns them through the admin door, while everything runs."""

from collections.abc import Mapping, Sequence

from tests.answers import answered
from tests.faults.forked.town import Town
from tests.parity.combinations import DECLARED, NAMES


class Switches:
    """The flags of both services as they stand now."""

    def __init__(self, town: Town) -> None:
        self._town = town
        self.on = dict.fromkeys(NAMES, True)

    async def set(self, wanted: Mapping[str, bool]) -> None:
        """Turn what stands differently; who accepts both kinds of proof does so before anybody sends another one."""
        changed = {name: value for name, value in wanted.items() if self.on[name] is not value}
        for service in ("payment", "reservation"):
            door = self._town.payment if service == "payment" else self._town.reservation
            for name, value in changed.items():
                if name in DECLARED[service]:
                    body = {"enabled": value, "percentage": 100, "reason": "parity"}
                    answered(await self._town.operator(door).ask("PUT", f"/admin/v1/flags/{name}", json=body))
        self.on |= changed

    async def flip(self, names: Sequence[str]) -> None:
        await self.set({name: not self.on[name] for name in names})
