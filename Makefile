# Fermata. `make help` lists what there is.

GO         ?= go
DESTDIR    ?=
KERNEL     ?= 6.1
KERNELS    := 6.1 5.10 6.12
VERSION    := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
HOURS      ?= 4
SEED       ?= $(shell date +%s)
SETS       ?= 2000
WRITER_SETS ?= 50
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
LAB        := $(GO) run ./lab
# The date in man pages and packages: that of the last change, so that everybody makes the same.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date +%s)
export CGO_ENABLED := 0
export SOURCE_DATE_EPOCH

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: build
build: ## the programs, in bin/
	$(GO) build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION) $(LDFLAGS)' -o bin/ ./cmd/...

.PHONY: man
man: build ## the man pages, in bin/man
	@bin/fermata reference >bin/fermata.json
	@bin/fermata-writer reference >bin/fermata-writer.json
	@rm -rf bin/man
	$(GO) run -C tools ./man -fermata $(CURDIR)/bin/fermata.json -writer $(CURDIR)/bin/fermata-writer.json -docs $(CURDIR)/docs -version $(VERSION) -out $(CURDIR)/bin/man

.PHONY: setup
setup: host-tools ## fetch and build what the lab needs (as root it installs missing Debian packages)
	@for k in $(KERNELS); do $(LAB) setup --kernel $$k || exit 1; done

# The bus of the host's own tests, and what the race detector links with.
.PHONY: host-tools
host-tools:
	@command -v gcc >/dev/null || .ci/need gcc
	@command -v dbus-daemon >/dev/null || .ci/need dbus-daemon
	@command -v systemd-analyze >/dev/null || .ci/need systemd

.PHONY: demo
demo: ## the main job, end to end, on a real PostgreSQL in the lab
	@mkdir -p bin
	$(GO) build -o bin/demo ./lab/demo
	@$(LAB) run --kernel $(KERNEL) --disk 4G --disk 2G -- $(CURDIR)/bin/demo

.PHONY: test
test: setup ## the tests, on the host and in guests; the longest take turns by day
	@$(GO) run ./lab/suite

.PHONY: test-all
test-all: setup ## every test, on every kernel
	@$(GO) run ./lab/suite -all

.PHONY: order
order: setup ## the order tests: 50 sets of thin volumes, 200 of four kinds of volume on 6.1, 20 on 5.10 and on 6.12
	@for run in 6.1=50=TestOrder$$ 6.1=200=TestOrderMixed 5.10=20=TestOrderMixed 6.12=20=TestOrderMixed; do \
		kernel=$${run%%=*}; test=$${run##*=}; sets=$${run#*=}; sets=$${sets%=*}; \
		echo "Linux $$kernel:"; \
		FERMATA_LAB_KERNEL=$$kernel FERMATA_LAB_SYSTEMD=1 FERMATA_LAB_DISKS="2G 2G" FERMATA_LAB_TIMEOUT=3h \
		FERMATA_LAB_ENV="FERMATA_ORDER_SETS=$$sets" \
		$(GO) test -tags lab -count=1 -v -timeout 3h -exec '$(GO) run $(CURDIR)/lab test' -run "$$test" ./lab/system || exit 1; \
	done

.PHONY: root
root: setup ## sets of a root on a volume that is in the set, with kills of the daemon: 20 on 6.1, 1 on 5.10 and on 6.12
	@for run in 6.1=20 5.10=1 6.12=1; do \
		echo "Linux $${run%=*}:"; \
		FERMATA_LAB_KERNEL=$${run%=*} FERMATA_LAB_SYSTEMD=1 FERMATA_LAB_ROOT_VOLUME=1 FERMATA_LAB_TIMEOUT=1h \
		FERMATA_LAB_ENV="FERMATA_ROOT_SETS=$${run#*=}" \
		$(GO) test -tags lab -count=1 -v -timeout 1h -exec '$(GO) run $(CURDIR)/lab test' -run TestRootVolume ./lab/system || exit 1; \
	done

# A test of lab/system in a guest with systemd: kernel, test, variables of the guest, variables of the lab.
endure = FERMATA_LAB_KERNEL=$(1) FERMATA_LAB_SYSTEMD=1 FERMATA_LAB_DISKS="2G 2G" FERMATA_LAB_TIMEOUT=24h \
	FERMATA_LAB_ENV="$(3)" $(4) \
	$(GO) test -tags lab -count=1 -v -timeout 24h -exec '$(GO) run $(CURDIR)/lab test' -run '^$(2)$$' ./lab/system

KINDS ?= thin thick dm plug-in mixed undone
PART  ?= full
.PHONY: crash-matrix
crash-matrix: setup ## every fault at every point of a set, for KINDS of sets on KERNELS (hours); PART=1/5 to 5/5: one at each
	@failed=; for k in $(KERNELS); do \
		for kind in $(KINDS); do \
			$(call endure,$$k,TestCrashMatrix,FERMATA_MATRIX=$(PART) FERMATA_MATRIX_KINDS=$$kind,) || failed="$$failed $$k/$$kind"; \
		done; \
		for kind in '' dm; do \
			$(call endure,$$k,TestPowerCut,FERMATA_MATRIX=full FERMATA_MATRIX_KINDS=$$kind,FERMATA_LAB_CUTS=1000) || failed="$$failed $$k/power/$$kind"; \
		done; \
	done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

.PHONY: torture
torture: setup ## faults at random, on KERNEL, for HOURS, by SEED (which it prints)
	$(call endure,$(KERNEL),TestTorture,FERMATA_TORTURE=$(HOURS)h FERMATA_MATRIX_SEED=$(SEED),)

.PHONY: soak
soak: setup ## SETS sets in a row under load, some of which something befalls, on KERNEL
	$(call endure,$(KERNEL),TestSoak,FERMATA_SOAK_SETS=$(SETS) FERMATA_MATRIX_SEED=$(SEED),)

.PHONY: writers
writers: setup ## WRITER_SETS (50) sets of each busy server: what they hold is what was acknowledged; the longest pause of their clients
	$(call endure,$(KERNEL),Test(PostgreSQLSets|MariaDBSets|KeyValue),FERMATA_WRITER_SETS=$(WRITER_SETS),)

.PHONY: days
days: setup ## a policy of four runs an hour for three days, under systemd with its clock moved, over a change of daylight saving (half an hour)
	$(call endure,$(KERNEL),TestDays,FERMATA_DAYS=3,)

.PHONY: test-host
test-host: host-tools ## only the tests that need no guest
	$(GO) test -short -skip ^TestGuest ./...

.PHONY: race
race: host-tools ## the host's tests of what runs concurrently, with the race detector
	CGO_ENABLED=1 $(GO) test -race -count=1 -skip ^TestGuest ./daemon/... ./dm/... ./fsfreeze/... ./hooks/...

.PHONY: page
page: ## the status page in a Chromium (108 MB, installed if it is missing); FERMATA_SCREENSHOTS=DIR leaves pictures there
	$(GO) test -tags browser -count=1 -v -run TestBrowser ./daemon/page

.PHONY: idle
idle: setup ## processor time and memory of an idle daemon and its exporter: 300 copy-on-write areas and 50 pools; 1,000 thin snapshots in 50
	$(call endure,$(KERNEL),TestIdle,FERMATA_IDLE=300 FERMATA_IDLE_AREAS=300 FERMATA_IDLE_POOLS=50 FERMATA_IDLE_CALLS=1,FERMATA_LAB_MEM=4G)
	$(call endure,$(KERNEL),TestIdle,FERMATA_IDLE=300 FERMATA_IDLE_THIN=1000 FERMATA_IDLE_POOLS=50 FERMATA_IDLE_CALLS=1,FERMATA_LAB_MEM=4G)

SECONDS_EACH ?= 600
.PHONY: traces
traces: setup ## record anew what the simulation of the forecast replays: 2 traces of SECONDS_EACH (600), twice
	@$(call endure,$(KERNEL),TestRecordTraces,FERMATA_TRACE=$(SECONDS_EACH),) | \
		awk '/^== ./ { file = $$2; printf "" > file; next } /^==/ { file = ""; next } file { print > file; next } { print }'

FUZZTIME ?= 30s
.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (30s; 500x: so many inputs) each; what one finds is kept below testdata/fuzz
	@for dir in $$(git grep -l '^func Fuzz' -- '*_test.go' | xargs -n1 dirname | sort -u); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p' $$dir/*_test.go); do \
			echo "$$dir $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) ./$$dir || exit 1; \
		done; \
	done

.PHONY: bench
bench: ## freeze windows beside their floors, the longest stall of an application, the whole; every provider, on 6.12 and 6.1
	@mkdir -p bin
	$(GO) build -o bin/bench ./lab/bench
	@for k in 6.12 6.1; do \
		$(LAB) run --kernel $$k --disk 8G --timeout 30m -- $(CURDIR)/bin/bench --check --stop-udev || exit 1; \
		echo; echo "The same with udev on the guest's one processor:"; \
		$(LAB) run --kernel $$k --disk 8G --timeout 30m -- $(CURDIR)/bin/bench --check --providers thin --volumes 1,8 || exit 1; \
	done

.PHONY: lint
lint: man ## gofmt, go vet, staticcheck, shellcheck, mandoc
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt-ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags lab,browser ./...
	$(GO) run $(STATICCHECK) -tags lab,browser ./...
	@command -v mandoc >/dev/null || .ci/need mandoc
	mandoc -Tlint -W warning bin/man/*
	@command -v shellcheck >/dev/null || .ci/need shellcheck
	$(GO) -C tools vet ./...
	$(GO) run -C tools $(STATICCHECK) ./...
	$(GO) -C tools test -count=1 ./...
	shellcheck $$(git grep -lE '^#!.*\b(ba|da)?sh\b' -- ':!*.go' ':!*.md')

# zsh looks for completions of packages in other places on other systems.
ZSH_COMPLETIONS ?= /usr/share/zsh/vendor-completions
.PHONY: install
install: build man ## the programs, units, man pages and completions, below DESTDIR
	install -D -m 0755 -t $(DESTDIR)/usr/bin bin/fermata bin/fermata-writer
	install -D -m 0755 -t $(DESTDIR)/usr/libexec/fermata bin/fermatad bin/fermata-guard bin/fermata-exporter
	install -D -m 0755 -t $(DESTDIR)/usr/lib/systemd/system-generators bin/fermata-generator
	install -D -m 0755 -t $(DESTDIR)/usr/lib/fermata/providers bin/fermata-provider-btrfs bin/fermata-provider-array
	@grep -v '^#' systemd/install.txt | while read -r from to mode; do \
		test -z "$$from" || install -D -m "$$mode" "$$from" "$(DESTDIR)$$to" || exit 1; done
	install -D -m 0644 -t $(DESTDIR)/usr/share/doc/fermata README.md docs/*.md
	@for page in bin/man/*; do install -D -m 0644 -t "$(DESTDIR)/usr/share/man/man$${page##*.}" "$$page" || exit 1; done
	@for to in bash=/usr/share/bash-completion/completions/fermata zsh=$(ZSH_COMPLETIONS)/_fermata fish=/usr/share/fish/vendor_completions.d/fermata.fish; do \
		bin/fermata completion "$${to%%=*}" >bin/completion && install -D -m 0644 bin/completion "$(DESTDIR)$${to#*=}" || exit 1; done

.PHONY: packages
packages: ## a .deb and a .rpm of what install installs, in bin/packages
	@rm -rf bin/packages bin/root
	@$(MAKE) --no-print-directory install DESTDIR=bin/root LDFLAGS='-s -w'
	$(GO) run -C tools ./package -root $(CURDIR)/bin/root -version $(VERSION) -arch $(shell $(GO) env GOARCH) -out $(CURDIR)/bin/packages

# Two packages that are one after the other, for the lab.
.PHONY: packages-lab
packages-lab:
	@$(MAKE) --no-print-directory packages VERSION=0.0.1
	$(GO) run -C tools ./package -root $(CURDIR)/bin/root -version 0.0.2 -arch $(shell $(GO) env GOARCH) -out $(CURDIR)/bin/packages

.PHONY: packages-check
packages-check: packages ## what Debian and rpm say of the packages; that a second making makes the same
	@command -v lintian >/dev/null || .ci/need lintian
	@command -v rpm >/dev/null || .ci/need rpm
	lintian --fail-on error bin/packages/*.deb
	rpm -qp --list --scripts bin/packages/*.rpm >/dev/null
	@(cd bin/packages && sha256sum *) >bin/packages.sha256
	@$(MAKE) --no-print-directory packages >/dev/null
	cd bin/packages && sha256sum -c ../packages.sha256

.PHONY: verify-units
verify-units: ## what systemd 247, 252 and 257 say of the units and of what the generator makes: nothing, or it fails
	@$(LAB) verify-units

.PHONY: clean
clean: ## remove bin/
	rm -rf bin
