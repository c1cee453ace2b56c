# Verbs only: what each one does is in meson.build and tools/.
.PHONY: all build test quick check lint fmt asan fuzz clean install
.DEFAULT_GOAL := build

PYTHON := $(if $(wildcard /usr/bin/python3),/usr/bin/python3,python3)
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60

all: build

build: # the program: build/pgcrane
	tools/build.sh build -Dwerror=false

test: # everything
	./run-tests

quick: # everything but the integration tests
	./run-tests --quick

check: # before each commit: both compilers without a warning, lint, unit tests under the sanitizers
	CC=gcc tools/build.sh build-test -Dwerror=true -Dfailpoints=true
	$(MAKE) --no-print-directory asan
	$(MAKE) --no-print-directory lint
	tools/check-docs.sh build-test/pgcrane
	$(PYTHON) tools/unit.py build-asan

asan:
	CC=clang tools/build.sh build-asan -Dwerror=true -Dfailpoints=true -Db_sanitize=address,undefined

lint:
	$(PYTHON) tools/layers.py
	$(PYTHON) tools/size.py
	$(PYTHON) tools/check-cleanup.py
	$(PYTHON) tools/check-text.py
	tools/format.sh --check

fmt:
	tools/format.sh

fuzz: # each fuzz program for FUZZ_SECONDS, from its corpus
	CC=clang tools/build.sh build-fuzz -Dfuzz=true -Db_sanitize=address,undefined
	tools/fuzz.sh build-fuzz -max_total_time=$(FUZZ_SECONDS)

install:
	tools/build.sh build --prefix=$(PREFIX) -Dwerror=false
	meson install -C build --no-rebuild $(if $(DESTDIR),--destdir=$(DESTDIR))

clean:
	rm -rf build build-* test-logs
