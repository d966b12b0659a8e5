# Serve the demo planners or run the tests from a fresh clone. Everything is installed into $(VENV).

PYTHON      ?= python3
VENV        ?= .venv
CONFIG      ?= configs/planners.yaml
ARGS        ?=
# Another place for torch's CPU build than PyTorch's public index: an index, or a folder of wheels (docs/deploy.md).
TORCH_INDEX ?=

bin       := $(VENV)/bin
installed := $(VENV)/.installed

# Tests run in as many processes as there are cores, up to four; one file in one of them (tests/quick_loop.py).
parallel      := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
quick_plugins := xdist.plugin pytest_asyncio.plugin _hypothesis_pytestplugin anyio.pytest_plugin

.DEFAULT_GOAL := help
.PHONY: help install serve check test-fast test format schema tree tables clients client-packages clean

help:
	@echo "make serve      serve the demo planners on this machine (CPU); CONFIG=file for others"
	@echo "make check      ruff and mypy: seconds once their caches are warm"
	@echo "make test-fast  the tests that need no engine, no process and at most 0.2 s"
	@echo "make test       check, and all tests; ARGS='-k config' for some"
	@echo "make format     let ruff rewrite the code"
	@echo "make schema     write configs/planners.schema.json anew"
	@echo "make tree       write the tree in docs/architecture.md anew"
	@echo "make tables     write the tables in docs/ anew: settings, commands, exit codes, routes, errors"
	@echo "make clients    write planners/client/client.py anew, from async_client.py"
	@echo "make client-packages  install the outside clients that tests/clients tries, in .clients and its js/node_modules"
	@echo "make clean      remove $(VENV), caches and build output; the model cache and .s3lora stay"

serve: $(installed)
	@$(bin)/s3lora-serve --config $(CONFIG) $(ARGS)

check: $(installed)
	@$(bin)/ruff check --quiet .
	@$(bin)/ruff format --check --quiet .
	@$(bin)/mypy

# Plugins that load themselves cost seconds, and hardly a test needs one; those that do are in the whole run.
test-fast: $(installed)
	@PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(bin)/python -m pytest --fast $(addprefix -p ,$(quick_plugins)) $(parallel) $(ARGS)

test: check
	@$(bin)/python -m pytest $(parallel) $(ARGS)

format: $(installed)
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

schema: $(installed)
	$(bin)/s3lora config schema > configs/planners.schema.json

tree: $(installed)
	$(bin)/python tests/packaging/source_tree.py

tables: $(installed)
	$(bin)/python tests/packaging/doc_tables.py

clients: $(installed)
	$(bin)/python tests/packaging/sync_client.py

# Apart, since they do not fit beside vLLM's own packages; the tests of what is not there are skipped.
client-packages: $(installed)
	$(bin)/uv venv --quiet --clear --python $(bin)/python .clients
	$(bin)/uv pip install --quiet --python .clients/bin/python -r tests/clients/python/requirements.txt
	cd tests/clients/js && npm ci --no-audit --no-fund --ignore-scripts

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

install: $(installed)

# Both distributions in one call, so that no index is asked for the name of either.
# The stamp makes the second run start at once; a change of the dependencies installs them anew.
$(installed): pyproject.toml planners/pyproject.toml constraints/cpu.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) found; install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; sys.exit(None if sys.version_info >= (3, 11) else "error: $(PYTHON) is Python " + v + ", but 3.11 or newer is needed; name one: make PYTHON=/path/to/python3.12")'
	@echo "==> Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@echo "==> Installing the CPU engine and the tools: about 200 packages and 4 GB, some minutes the first time"
	@TORCH_INDEX='$(TORCH_INDEX)' sh constraints/install.sh $(bin)/python -e ./planners -e ".[cpu,dev]"
	@touch $@
