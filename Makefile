# Two commands: `make report` measures and writes the page, `make test` checks the suite. Each sets itself up.
PYTHON ?= python3
VENV ?= .venv
PROFILE ?= quick
BIN := $(VENV)/bin
# One thread per process: with more, small kernels on two busy cores run many times slower.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1

.PHONY: report site links test nightly census kernels peers mutation coverage vulnerabilities lint clean

report: $(VENV)/installed
	@# The report is written whatever broke, and says so; the run's exit code is the command's.
	@$(BIN)/pudle run --profile $(PROFILE); run=$$?; \
	$(BIN)/pudle report --profile $(PROFILE); report=$$?; \
	[ $$run -eq 0 ] && exit $$report || exit $$run

# The site, in build/site: every warning is an error. Pages that `make report` has left are linked there.
site: $(VENV)/installed-site
	$(BIN)/python -m sphinx -E -a -W --keep-going -q -b html -d build/doctrees docs build/site
	@echo "$(CURDIR)/build/site/index.html"

# Links of the site to other places; those of the site to itself are checked by `make site`.
links: $(VENV)/installed-site
	$(BIN)/python -m sphinx -q -b linkcheck -d build/doctrees docs build/links

test: $(VENV)/installed-test lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not nightly' --durations=20

# All tests, those about other packages among them, with the extras installed.
nightly: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet --editable '.[test,peers,baselines,site]'
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Layers of released packages, audited: says what differs from docs/results/census.jsonl, and fails where a verdict does.
census:
	@test -x build/census/bin/python || $(PYTHON) -m venv build/census
	build/census/bin/python -m pip install --quiet --editable '.[census]'
	@# It asks for numpy 1, and works with 2.
	build/census/bin/python -m pip install --quiet --no-deps qpth
	@# It is compiled with the torch that is installed.
	build/census/bin/python -m pip install --quiet --no-build-isolation torchsort
	@# The last one that goes with a torch of its own number.
	@test -x build/census-audio/bin/python || $(PYTHON) -m venv build/census-audio
	build/census-audio/bin/python -m pip install --quiet --editable . 'torch==2.9.*' 'torchaudio==2.9.*'
	build/census/bin/python examples/census/run.py --changes --python torchaudio=build/census-audio/bin/python

kernels: $(VENV)/installed-test
	$(BIN)/python -m pytest tests/estimators/test_kernels.py --benchmark-only

# Gradients beside other programs for the same ones. On one core processor time, because neighbors on the machine cost a
# wall clock more; then wall time on all cores, which needs a machine that does nothing else.
peers: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet --editable '.[test,peers,baselines]'
	$(BIN)/python -m pytest tests/speed/test_peers.py --benchmark-only --benchmark-quiet --benchmark-timer=time.process_time -q
	PEERS_CORES=all $(BIN)/python -m pytest tests/speed/test_peers.py --benchmark-only --benchmark-quiet --benchmark-timer=time.perf_counter -q

# Changes to the core that no test notices: in build/mutation `mutmut results` lists them, `mutmut show NAME` shows one.
mutation: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet --editable '.[test,audit]'
	rm -rf build/mutation && mkdir -p build/mutation && git archive HEAD | tar -x -C build/mutation
	cd build/mutation && cp -r estimators datasets bench reports src/pudle
	cd build/mutation && $(abspath $(BIN))/python -m mutmut run && $(abspath $(BIN))/python -m mutmut results

# Lines of the core that no test runs. Compiled kernels are not traced: their tests run the plain torch path beside them.
coverage: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet --editable '.[test,audit]'
	@rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/python -m coverage run -m pytest -n 2 --dist worksteal -q -m 'not nightly'; $(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --skip-covered --show-missing

# Known vulnerabilities of what is installed; where their list cannot be reached, that is said.
vulnerabilities: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet --editable '.[test,audit]'
	@rm -f build/vulnerabilities.json; mkdir -p build; \
	$(BIN)/python -m pip_audit --skip-editable --progress-spinner off --format json --output build/vulnerabilities.json 2> build/vulnerabilities.log; code=$$?; \
	if [ -s build/vulnerabilities.json ]; then cat build/vulnerabilities.log; exit $$code; else echo "skipped: the list of vulnerabilities cannot be reached"; fi

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf build/typed && mkdir -p build/typed/pudle
	@ln -s $(addprefix ../../../,$(wildcard src/pudle/*) estimators datasets bench reports) build/typed/pudle
	$(BIN)/mypy
	@# Every action is pinned by its commit, with its version beside it.
	! grep -n 'uses:' .github/workflows/*.yml | grep -vE '@[0-9a-f]{40}  # v[0-9.]+$$'
	$(BIN)/check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema -q --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(BIN)/check-jsonschema -q --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema -q --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema -q --builtin-schema vendor.citation-file-format CITATION.cff
	@# Without a repository, as in an unpacked source distribution, codespell takes the whole folder.
	git ls-files -z --cached --others --exclude-standard 2>/dev/null | xargs -0 $(BIN)/codespell

# What `pip install .` leaves here would hide entry points that are added later.
$(VENV)/installed: pyproject.toml
	@rm -rf pudle.egg-info
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV), which takes as long as torch takes to download"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml
	@rm -rf pudle.egg-info
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV), which takes as long as torch takes to download"
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-site: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV), which takes as long as torch takes to download"
	$(BIN)/python -m pip install --quiet --editable '.[site]'
	@touch $@

clean:
	rm -rf $(VENV) build dist docs/gallery *.egg-info
