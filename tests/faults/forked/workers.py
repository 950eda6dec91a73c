"""The harness processes and their databases: each does one trial at a time, and starts afresh after a red one."""

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue

from deploy.embedded.databases import migrate
from deploy.embedded.postgres import Postgres
from deploy.embedded.valkey import Valkey, find_valkey
from tests.faults.forked.ground import PROJECT
from tests.faults.forked.plan import Order
from tests.faults.forked.trials import Verdict

Judged = tuple[Order, Verdict]

_SERVICES = ("reservation", "payment")
# A later pass is not bound to happen, but a first one is: in one of three lives, however the work fell to the workers.
_TRIES = 3


class Worker:
    """One harness process with databases of its own. It ends when its input does, also when we are killed."""

    def __init__(self, postgres: Postgres, redis_url: str, folder: Path) -> None:
        folder.mkdir()
        urls = []
        for service in _SERVICES:
            name = f"{folder.name}_{service}"
            postgres.create_database(name, template=_template(service))
            urls.append(postgres.url(name))
        with (folder / "harness.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.forked.harness", str(folder), *urls, redis_url],
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._log = folder / "harness.log"

    def run(self, order: Order) -> Verdict:
        """Make a trial; again, when its crash did not happen and should have, and nothing else was wrong."""
        for _ in range(_TRIES):
            verdict = self._once(order)
            if verdict.violations or verdict.missed is None or not order.must_fire:
                break
        return verdict

    def _once(self, order: Order) -> Verdict:
        assert self._process.stdin, "it was started with pipes"
        assert self._process.stdout, "it was started with pipes"
        with suppress(BrokenPipeError):  # then there is no answer either, and its log says why
            self._process.stdin.write(json.dumps({"path": order.path, "deaths": order.deaths}) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            return Verdict(order.path, list(order.deaths), violations=[f"the harness ended: {self._log.read_text()}"])
        return Verdict.read(json.loads(answer))

    def close(self) -> None:
        """Let it end with its input."""
        if self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait(10)


def _template(service: str) -> str:
    return f"template_{service}"


class Workers:
    """All harness processes over one PostgreSQL and one Valkey."""

    def __init__(self, postgres: Postgres, redis_url: str, folder: Path, number: int) -> None:
        self._postgres = postgres
        self._redis_url = redis_url
        self._folder = folder
        self._number = number
        self._names = count()
        self._idle: SimpleQueue[Worker] = SimpleQueue()

    def run_all(self, orders: Sequence[Order], *, go_on: Callable[[], bool] = lambda: True) -> Iterator[Judged]:
        """Yield verdicts as they come; no new trial is begun once `go_on` says no."""
        waiting = SimpleQueue[Order]()
        for order in orders:
            waiting.put(order)
        verdicts: SimpleQueue[Judged | None] = SimpleQueue()
        with ThreadPoolExecutor(self._number) as threads:
            futures = [threads.submit(self._work, waiting, verdicts, go_on) for _ in range(self._number)]
            for _ in futures:
                while judged := verdicts.get():
                    yield judged
            for future in futures:
                future.result()

    def _work(
        self, waiting: SimpleQueue[Order], verdicts: SimpleQueue[Judged | None], go_on: Callable[[], bool]
    ) -> None:
        worker = None
        try:
            while go_on():
                order = waiting.get_nowait()
                worker = worker or self._take()
                verdict = worker.run(order)
                verdicts.put((order, verdict))
                if verdict.violations:
                    worker.close()
                    worker = None
        except Empty:
            pass
        finally:
            if worker:
                self._idle.put(worker)
            verdicts.put(None)

    def _take(self) -> Worker:
        try:
            return self._idle.get_nowait()
        except Empty:
            return Worker(self._postgres, self._redis_url, self._folder / f"worker{next(self._names)}")

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get().close()


@contextmanager
def open_workers(folder: Path, number: int) -> Iterator[Workers]:
    """Start a PostgreSQL that need not survive a power cut, a Valkey where there is one, and workers as work comes."""
    with ExitStack() as open_parts:
        postgres = Postgres(folder / "postgres", password=secrets.token_hex(16), durable=False)
        open_parts.enter_context(postgres)
        redis_url = open_parts.enter_context(Valkey(folder)).url if find_valkey() else ""
        for service in _SERVICES:
            postgres.create_database(_template(service))
            migrate({service: postgres.url(_template(service))})
        workers = Workers(postgres, redis_url, folder, number)
        open_parts.callback(workers.close)
        yield workers
