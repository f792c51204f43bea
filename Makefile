# make demo    set up, run the embedded study, build its report
# make test    set up and run every test that needs nothing else
# make test-long    tests that take ten seconds or more each
# make test-slow    tests of whole studies and of models at their real size
# make test-slurm   tests of a cluster, on a Slurm of their own (needs slurm-wlm, munge and root)
# make check   lint, format, types, Snakefile lint and format, links of the site
# make lint-actions    what GitHub runs for this project, read by kept linters (part of check)
# make check-envs      ask the package index whether every environment can be had
# make lock    write envs/lock.txt from the pins
# make docs    write docs/reference/ from schemas and commands, build the site of docs/ in site/
# make early-exit-demo    the same for the study of early exit, with a package's pretrained model
# make causal-demo        the same for a pretrained causal model with LoRA and in full
# make report  STUDY=name: build results/name/report.html from finished results
PYTHON ?= python3
STUDY ?= demo
CORES ?= all
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CONSTRAINED := -c envs/constraints.txt
PYTEST := $(BIN)/python -m pytest
PARALLEL := --numprocesses 2 --dist loadfile

.PHONY: demo early-exit-demo causal-demo test test-long test-slow test-slurm check docs report
.PHONY: format setup clean-venv lint-actions lock check-envs

setup: .venv/runtime.stamp

.venv/runtime.stamp: envs/requirements.txt envs/requirements-processors.txt envs/constraints.txt \
		pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "longwatt needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ..."; \
		exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -r envs/requirements.txt $(CONSTRAINED)
	$(PIP) --no-deps -r envs/requirements-processors.txt
	$(PIP) --no-deps --editable .
	@touch $@

.venv/dev.stamp: .venv/runtime.stamp envs/requirements-dev.txt envs/requirements-slurm.txt \
		envs/requirements-docs.txt envs/requirements-crates.txt envs/requirements-snakedeploy.txt
	$(PIP) -r envs/requirements-dev.txt $(CONSTRAINED)
	$(PIP) --no-deps -r envs/requirements-crates.txt -r envs/requirements-snakedeploy.txt
	@touch $@

demo: .venv/runtime.stamp
	$(BIN)/snakemake --cores $(CORES) --config study=demo
	@$(MAKE) --no-print-directory report STUDY=demo

.venv/early-exit.stamp: .venv/runtime.stamp envs/requirements-early-exit.txt
	$(PIP) --no-deps -r envs/requirements-early-exit.txt
	@touch $@

early-exit-demo: .venv/early-exit.stamp
	$(BIN)/snakemake --cores $(CORES) --config study=early_exit_demo
	@$(MAKE) --no-print-directory report STUDY=early_exit_demo

.venv/causal.stamp: .venv/runtime.stamp envs/requirements-causal.txt
	$(PIP) --no-deps -r envs/requirements-causal.txt
	@touch $@

causal-demo: .venv/causal.stamp
	$(BIN)/snakemake --cores $(CORES) --config study=causal_demo
	@$(MAKE) --no-print-directory report STUDY=causal_demo

report: .venv/runtime.stamp
	$(BIN)/snakemake --cores 1 --config study=$(STUDY) --report results/$(STUDY)/report.html
	@echo "The report is results/$(STUDY)/report.html"

test: .venv/dev.stamp
	$(PYTEST) -m "not slow and not slurm and not long" $(PARALLEL) --no-loadscope-reorder

test-long: .venv/dev.stamp
	$(PYTEST) -m long $(PARALLEL)

test-slow: .venv/dev.stamp
	$(PYTEST) -m slow

test-slurm: .venv/dev.stamp
	$(PYTEST) -m slurm

# Offline: its schemas come with it, and zizmor leaves out audits that ask GitHub.
lint-actions: .venv/dev.stamp
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms \
		.github/ISSUE_TEMPLATE/*.yml
	$(BIN)/zizmor --offline --quiet --no-progress .github

.venv/envs.stamp: .venv/dev.stamp envs/requirements-envs.txt
	$(PIP) -r envs/requirements-envs.txt $(CONSTRAINED)
	@touch $@

lock: .venv/envs.stamp
	$(BIN)/python envs/resolve.py lock

check-envs: .venv/envs.stamp
	$(BIN)/python envs/resolve.py check
	for python in 3.12 3.13; do $(BIN)/mypy --python-version $$python || exit 1; done
	$(BIN)/hadolint Dockerfile

check: lint-actions .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow/Snakefile workflow/rules
	$(BIN)/snakemake --lint --config study=demo
	$(BIN)/python -m website

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/Snakefile workflow/rules

.venv/docs.stamp: .venv/runtime.stamp envs/requirements-docs.txt
	$(PIP) -r envs/requirements-docs.txt $(CONSTRAINED)
	@touch $@

docs: .venv/docs.stamp
	$(BIN)/python -m longwatt.config.reference
	$(BIN)/python -m website.commands
	$(BIN)/python -m website

clean-venv:
	rm -rf .venv
