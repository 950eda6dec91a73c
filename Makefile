# The commands of the project. Everything runs in .venv, which deploy/bootstrap.py makes from the lock files.
.DEFAULT_GOAL := help
.PHONY: help run demo test scenarios lint format lock openapi reference chaos simulate parity record-release fuzz security-audit redis-weather drills dashboards soak clean \
	bench bench-quick growth bench-failures bench-convert bench-confirm bench-flags bench-switches bench-profile

PYTHON ?= python3
BIN := .venv/bin
BOOTSTRAP := $(PYTHON) deploy/bootstrap.py
UV ?= uv
UPGRADE ?=
COMPILE := $(UV) pip compile $(UPGRADE) --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header

help: ## list what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

run: ## start everything, make one booking, stay up until Ctrl-C
	@$(BOOTSTRAP)
	@exec $(BIN)/python -m deploy.embedded

demo: ## five stories: a booking, a decline, a renewal, Stripe away, a kill -9
	@$(BOOTSTRAP)
	@exec $(BIN)/python -m deploy.stories

# Three workers on two cores, because most tests wait for processes more than they compute; a file's tests stay together.
test: lint ## every check and every test
	@$(BIN)/python -m pytest @tests/whole_run.args

scenarios: ## every test, and docs/reference/failure-modes.md says what they have proved
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.scenarios

chaos: ## 200 bookings while services die and webhooks misbehave (SEED=n repeats a day, BUDGET=seconds)
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(BUDGET),--budget $(BUDGET))

simulate: ## 100,000 worlds in which everything goes wrong (SEEDS=, SEED=first, BUDGET=seconds)
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),100000) $(if $(SEED),--seed $(SEED)) $(if $(BUDGET),--budget $(BUDGET))

fuzz: ## 20,000 requests, well-formed, forbidden and broken, at every operation (SEED=, BUDGET=, REQUESTS=)
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.fuzz $(if $(SEED),--seed $(SEED)) $(if $(BUDGET),--budget $(BUDGET)) $(if $(REQUESTS),--requests $(REQUESTS))

parity: ## the contract with all flags on, all off, each off, each alone, and flipped meanwhile (SEED=, BUDGET=)
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.parity $(if $(SEED),--seed $(SEED)) $(if $(BUDGET),--budget $(BUDGET))

record-release: ## write down this release, which the next one must get on with (tests/release/previous)
	@$(BOOTSTRAP) --dev
	@$(BIN)/python -m tests.release.record

security-audit: ## locks, committed secrets, image files; known weaknesses where pip-audit is installed
	@$(BOOTSTRAP) --dev
	@$(BIN)/python -m tests.security_audit

drills: ## faults, and whether the alerts come and go in a real Prometheus; every panel shows something (SEED=, BUDGET=, ONLY=)
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.watching $(if $(SEED),--seed $(SEED)) $(if $(BUDGET),--budget $(BUDGET)) $(if $(ONLY),--only $(ONLY))

soak: ## guests come and go for half an hour; memory, open files and times may not grow (BUDGET=seconds)
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.soak $(if $(BUDGET),--budget $(BUDGET))

dashboards: ## write deploy/grafana/dashboards/*.json from the code
	@$(BOOTSTRAP) --dev
	@$(BIN)/python -m deploy.grafana

redis-weather: ## the suites that touch Redis while it is absent, killed, flushed, silent, paused (MODE=, SEED=, BUDGET=)
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.redis_weather $(if $(MODE),--mode $(MODE)) $(if $(SEED),--seed $(SEED)) $(if $(BUDGET),--budget $(BUDGET))

bench: ## how fast a hold and a booking are, beside pgbench and a constant route, 10 to 20 minutes (SEED=, BUDGET=, ANYWAY=1)
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.bench --size full $(if $(SEED),--seed $(SEED)) $(if $(BUDGET),--budget $(BUDGET)) $(if $(ANYWAY),--anyway)

bench-quick: ## the same in two to three minutes, without full tables and slow Stripe (SEED=, BUDGET=, ANYWAY=1)
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.bench --size quick --budget $(or $(BUDGET),210) $(if $(SEED),--seed $(SEED)) $(if $(ANYWAY),--anyway)

growth: ## what everything costs among 10^3 .. 10^7 holds (ROWS=, BUDGET=); an hour and 20 GB of disk
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.bench.growing $(if $(ROWS),--rows $(ROWS)) $(if $(BUDGET),--budget $(BUDGET))

bench-failures: ## payment failures on a bad day at Stripe, helpers off and on (SEED=, BUDGET=, GUESTS=, ARM="all on")
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.load.failures_bench $(if $(SEED),--seed $(SEED)) $(if $(BUDGET),--budget $(BUDGET)) \
		$(if $(GUESTS),--guests $(GUESTS)) $(if $(ARM),--arm "$(ARM)") $(if $(RATE),--rate $(RATE))

bench-convert: ## how long guests wait for convert with Stripe at 200 ms (RATE=per second, SEED=)
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.load.convert_bench $(if $(RATE),--rate $(RATE)) $(if $(SEED),--seed $(SEED))

bench-confirm: ## from the authorised webhook to confirmed, 50 bookings paid a second (RATE=, SEED=)
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.load.confirm_bench $(if $(RATE),--rate $(RATE)) $(if $(SEED),--seed $(SEED))

bench-flags: ## what one look at a flag costs, a few seconds; red from 20 microseconds on
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.bench.flag_looks

bench-switches: ## what each flag, and telemetry, costs a hold or a booking, on and off in turns, seven minutes (TURNS=, ONLY=name)
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.bench.switches $(if $(TURNS),--turns $(TURNS)) $(if $(ONLY),--only $(ONLY))

bench-profile: ## in which layers the processor time of a hold goes, a minute (HOLDS=)
	@$(BOOTSTRAP) --dev
	@exec $(BIN)/python -m tests.bench.profiling $(if $(HOLDS),--holds $(HOLDS))

lint: ## style, types and who may import whom
	@$(BOOTSTRAP) --dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: ## let ruff write the code's layout
	@$(BOOTSTRAP) --dev
	@$(BIN)/ruff check --fix --select I .
	@$(BIN)/ruff format .

lock: ## bring the lock files in line with pyproject.toml (needs uv; UPGRADE=--upgrade for newer versions)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: pipx install uv, or make lock UV=/path/to/uv"; exit 1; }
	$(COMPILE) pyproject.toml --group build -o requirements.lock
	$(COMPILE) pyproject.toml --group build --group dev -c requirements.lock -o requirements-dev.lock
	$(COMPILE) --no-deps deploy/embedded/binaries.in -o deploy/embedded/binaries.lock

openapi: ## write docs/reference/openapi/*.json from the code
	@$(BOOTSTRAP)
	@$(BIN)/python -m deploy.cli openapi

reference: ## render the generated tables of docs/ from the code
	@$(BOOTSTRAP) --dev
	@$(BIN)/python -m tests.architecture.reference_tables

clean: ## remove caches; what was installed (.venv) and booked (.holdfast) stays
	@rm -rf .mypy_cache .ruff_cache .hypothesis .import_linter_cache .pytest_cache dist
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
