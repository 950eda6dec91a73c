"""Kills services at random moments, as hard as the kernel can, and brings them back."""

import random
import threading
from dataclasses import dataclass, field

from tests.system import SERVICES, Service, System


@dataclass
class Killer:
    """Ends one or both services about every `every_s` seconds until told to stop; the moments follow the seed."""

    system: System
    seed: int
    every_s: float
    killed: list[Service] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self, at_least: int) -> None:
        """Kill until the guests are gone, and go on until `at_least` processes have died."""
        dice = random.Random(f"kills:{self.seed}")
        while not self._stop.is_set() or len(self.killed) < at_least:
            self._stop.wait(dice.uniform(0.3, 1.7) * self.every_s)
            victims: tuple[Service, ...] = SERVICES if dice.random() < 0.25 else (dice.choice(SERVICES),)
            for victim in victims:
                self.system.stack.kill(victim)
                self.system.assert_crashed(victim)
                self.killed.append(victim)
            self._stop.wait(dice.uniform(0, 0.5))
            self.system.heal(*victims)

    def stop(self) -> None:
        self._stop.set()
