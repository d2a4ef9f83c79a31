# make demo     a real Whisper, made small for one speaker; CLIPS=folder uses your recordings
# make test     every test; downloads Whisper weights first (once, 220 MB)
# make check    ruff, types and a quarter of the tests, in a minute
# make soak     what make test does a twentieth of: kills, exports and inputs by the thousand
# make fuzz     damaged files for every reader, SECONDS=60 each (tests/fuzz)
# make android  the Android demo on the JVM: needs JDK 17, Maven and aapt2 (android_demo/README.md)
# make docs     the generated parts of the documentation, and the site in build/site
# make dist     both distributions to publish, each as sdist and wheel
# make weights  what the tests download

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
INSTALLED := $(VENV)/.installed
BUDGET_KB ?= 14000
SECONDS ?= 60

.PHONY: demo test check soak fuzz lint android docs dist weights clean

demo: $(INSTALLED)
	$(BIN)/python examples/demo.py --budget-kb $(BUDGET_KB) $(if $(CLIPS),--clips "$(CLIPS)")

test: $(INSTALLED) weights
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile --durations=15

# Without the folders whose tests need PyTorch: importing it alone takes seconds.
check: lint
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal --quick \
	  --ignore tests/exporters --ignore tests/examples --ignore tests/extending

soak: $(INSTALLED)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist worksteal --soak -m soak

fuzz: $(INSTALLED)
	$(BIN)/python -W ignore tests/fuzz/run.py --seconds $(SECONDS) $(TARGETS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

android: $(INSTALLED) weights
	HF_HUB_OFFLINE=1 $(BIN)/python -W ignore android_demo/tools/make_test_bundles.py -o work/android
	mvn -q -B -f android_demo/pom.xml verify

docs: $(INSTALLED)
	$(BIN)/python toolchain/write_docs.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Wheels are built from the sdists, which ask for mqruntime by version (setup.py).
dist: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m build --outdir dist runtime_py
	$(BIN)/python -m twine check --strict dist/*

# Without a network the tests that need the weights are skipped and say so.
weights: $(INSTALLED)
	-$(BIN)/python examples/get_weights.py work/weights

$(INSTALLED): pyproject.toml setup.py runtime_py/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; set PYTHON=path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "Python lacks venv; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --editable '.[export,dev,docs]'
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --no-deps --editable ./runtime_py
	@touch $@

clean:
	rm -rf $(VENV) demo dist build runtime_py/build
