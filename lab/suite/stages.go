package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// stage is one run of go test.
type stage struct {
	name  string
	alone bool // it uses the whole machine, or measures
	// its tests are proofs by many attempts, in which one failure counts: those that fail are not run once more.
	strict bool
	// kernel of the guests that its tests run in; empty: they run on the host.
	kernel  string
	systemd bool
	root    bool     // their root is a volume
	bare    bool     // their guest has none of the project's programs
	first   []string // a command to be run before, on the host
	env     []string // for the guest, or on the host
	cuts    int      // how often its tests may cut the guest's power
	turn    int      // the day on which it runs, from 1 to turns; 0: on every day
	flags   []string // of go test
	args    []string // of go test: which tests
	tests   string   // of the whole daemon, that no other stage runs
	rest    bool     // the tests of the whole daemon that no other stage runs
	// folders whose packages are tested that have files *_lab_test.go: those are for guests.
	folders []string
}

// stages is everything, the longest first among those that run side by side. Those with a turn would together take longer
// than a change should wait: go run ./lab/suite -all runs them all.
var stages = []stage{
	{name: "host", alone: true, args: []string{"-skip", guestTests, "./..."}},
	{name: "race", turn: 2, alone: true, env: []string{"CGO_ENABLED=1"}, flags: []string{"-race"}, args: []string{"-skip", guestTests, "./daemon/...", "./dm/...", "./fsfreeze/...", "./hooks/..."}},
	{name: "system 6.1", kernel: "6.1", systemd: true, rest: true},
	{name: "order 6.12", strict: true, kernel: "6.12", systemd: true, env: []string{"FERMATA_ORDER_SETS=10"}, tests: "TestOrder$|TestInOrder"},
	{name: "mixed order 6.1", strict: true, kernel: "6.1", systemd: true, env: []string{"FERMATA_ORDER_SETS=20"}, tests: "TestOrderMixed|TestOrderUnheld"},
	{name: "crash matrix 6.1", strict: true, kernel: "6.1", systemd: true, tests: "TestCrashMatrix"},
	{name: "soak 6.1", strict: true, kernel: "6.1", systemd: true, env: []string{"FERMATA_SOAK_SETS=100"}, tests: "TestSoak"},
	{name: "guest 6.1", kernel: "6.1", args: []string{"-skip", long}, folders: []string{"dm", "fsfreeze", "cmd"}},
	{name: "kinds 6.1", turn: 6, kernel: "6.1", systemd: true, tests: kinds},
	{name: "system 6.12", strict: true, kernel: "6.12", systemd: true, env: []string{"FERMATA_ORDER_SETS=2"}, args: []string{"-run", short, "./lab/system"}},
	{name: "system 5.10", strict: true, kernel: "5.10", systemd: true, env: []string{"FERMATA_ORDER_SETS=2"}, args: []string{"-run", short, "./lab/system"}},
	{name: "guest 6.12", turn: 1, kernel: "6.12", args: []string{"-skip", long + "|TestDM$|TestThick$"}, folders: kernelFolders},
	{name: "guest 5.10", turn: 4, kernel: "5.10", args: []string{"-skip", long + "|TestDM$|TestThin$|TestArray$"}, folders: kernelFolders},
	{name: "policies 6.1", turn: 9, kernel: "6.1", systemd: true, tests: "TestPrometheus|TestPolicyRun|TestSchedule|TestCalendar|TestExec|TestCron|TestOnFailure|TestInit$"},
	{name: "clock and users 6.1", turn: 9, kernel: "6.1", systemd: true, tests: "TestDays|TestDelegation|TestReload|TestJournalEntries|TestCredentials|TestIdleExit"},
	{name: "backup programs 6.1", turn: 6, kernel: "6.1", systemd: true, tests: "TestBackupPrograms"},
	{name: "others 6.12", turn: 7, kernel: "6.12", systemd: true, tests: elsewhere},
	{name: "providers 6.1", turn: 7, kernel: "6.1", args: []string{"-run", long}, folders: []string{"dm/provider", "cmd/fermata-provider-array"}},
	{name: "root 6.1", strict: true, turn: 3, kernel: "6.1", systemd: true, root: true, tests: "TestRootVolume"},
	{name: "power cuts 6.1", strict: true, turn: 3, kernel: "6.1", systemd: true, cuts: 10, tests: "TestPowerCut"},
	{name: "power cut of a guest", strict: true, turn: 3, args: []string{"-run", "TestGuestCrashSet", "./lab"}},
	{name: "what does not return 6.1", strict: true, turn: 3, kernel: "6.1", systemd: true, tests: "TestHooksFromHell|TestLVMLockHeld|TestLVMHangs|TestDiskStopsAnswering"},
	{name: "window 6.1", strict: true, turn: 2, kernel: "6.1", systemd: true, tests: "TestNothingElseInTheWindow|TestIdle$"},
	{name: "other hosts 6.1", turn: 2, kernel: "6.1", systemd: true, tests: "TestOtherHost"},
	{name: "writers 6.1", turn: 5, kernel: "6.1", systemd: true, env: []string{"FERMATA_WRITER_SETS=5"}, tests: "TestMariaDBSets|TestPostgreSQLSets|TestKeyValue"},
	{name: "broken holds 6.1", turn: 8, kernel: "6.1", systemd: true, tests: "TestBrokenHolds"},
	{name: "services 6.1", turn: 5, kernel: "6.1", systemd: true, tests: "TestServiceWriter|TestUnitWriter"},
	{name: "recover 6.1", turn: 5, kernel: "6.1", systemd: true, tests: "TestRecover"},
	{name: "pools that fill up 6.1", turn: 10, kernel: "6.1", systemd: true, tests: "TestActs|TestDmeventd|TestOutside|TestInUse"},
	{name: "pools that fill up 6.12", turn: 1, kernel: "6.12", systemd: true, args: []string{"-run", acts, "./lab/system"}},
	{name: "pools that fill up 5.10", turn: 7, kernel: "5.10", systemd: true, args: []string{"-run", acts, "./lab/system"}},
	{name: "recipes 6.1", turn: 10, kernel: "6.1", folders: []string{"hooks"}},
	{name: "packages 6.1", turn: 8, kernel: "6.1", systemd: true, bare: true, first: []string{"make", "packages-check", "packages-lab"}, folders: []string{"lab/packages"}},
	{name: "units", turn: 4, args: []string{"-run", "TestGuestUnits", "./lab"}},
	{name: "page", turn: 6, flags: []string{"-tags=browser"}, args: []string{"-run=TestBrowser", "./daemon/page"}},
	{name: "lab", args: []string{"-run", guestTests, "-skip", "TestGuestCrashSet|TestGuestUnits", "./lab"}},
}

// turns is how many days it takes until every stage has had its turn.
const turns = 10

// today is whose turn it is, from 1 to turns.
func today(now time.Time) int { return int(now.Unix()/(24*60*60)%turns) + 1 }

// kernelFolders hold what depends on the kernel's version.
var kernelFolders = []string{"dm", "fsfreeze", "hooks/child", "cmd/fermata-provider-btrfs", "cmd/fermata-provider-array"}

// guestTests are the lab's own tests that boot guests, from the host, or have programs of other systems run there.
const guestTests = "^TestGuest"

// kinds are tests of the whole daemon over the kinds of volumes that the others leave out.
const kinds = "TestPlugin|TestBtrfs|TestDMVolume|TestEveryKind|TestNamesWithoutUdev|TestMixedSet|TestRawVolume|TestPoolFilledAfterArming|TestReadOnlyFilesystem"

// elsewhere are tests of the whole daemon that run on 6.12 alone, which is the fastest kernel in a guest.
const elsewhere = "TestClone|TestOverflow|TestGroupInFile|TestOneVolume|TestStacked|TestSubvolumeByDM|TestOddMountPoint"

// long are tests of the providers that run on 6.1 alone, in a turn.
const long = "TestDMDevice|TestDMDeath|TestDMArea|TestThickDeath|TestMisbehaviour"

// acts is as much of what is done about pools as other kernels have to show.
const acts = "TestActsExtend|TestActsDelete/data"

// short is the pass of the whole daemon over the kernels that are not the default.
const short = "TestInstant|TestMount|TestTrap|TestOrderMixed|TestKilledDaemon"

// run runs the stage. lab is the lab's program.
func (s stage) run(lab string) tally {
	packages, err := labPackages(s.folders)
	if err != nil {
		return tally{failed: []string{s.name}, text: map[string]string{s.name: err.Error() + "\n"}}
	}
	t := s.goTest(lab, slices.Concat(s.args, s.selection(), packages))
	if !s.strict {
		t = t.secondTry(func(args []string) tally { return s.goTest(lab, args) })
	}
	return t
}

// goTest runs go test with arguments that say which tests.
func (s stage) goTest(lab string, which []string) tally {
	args := append([]string{"test", "-json", "-count=1", "-timeout=40m"}, s.flags...)
	if s.kernel != "" {
		args = append(args, "-tags=lab", "-p=1", "-exec="+lab+" test")
	}
	if len(s.first) > 0 {
		if out, err := exec.Command(s.first[0], s.first[1:]...).CombinedOutput(); err != nil {
			return tally{failed: []string{s.name}, text: map[string]string{s.name: fmt.Sprintf("%s: %v\n%s", strings.Join(s.first, " "), err, out)}}
		}
	}
	c := exec.Command("go", slices.Concat(args, which)...)
	c.Env = append(os.Environ(), s.environment()...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return tally{failed: []string{s.name}, text: map[string]string{s.name: err.Error() + "\n"}}
	}
	t := count(out)
	var exit *exec.ExitError
	if err := c.Wait(); err != nil && (!errors.As(err, &exit) || t.ok()) {
		t.fail(s.name, fmt.Sprintf("go test: %v\n", err)) // failed, and no test says so
	}
	if t.passed == 0 && t.ok() {
		t.fail(s.name, "no test ran\n")
	}
	return t
}

// selection are go test's arguments for tests of the whole daemon.
func (s stage) selection() []string {
	switch {
	case s.tests != "":
		return []string{"-run", s.tests, "./lab/system"}
	case s.rest:
		others := []string{"TestTorture", "TestRecordTraces"} // which is for hours, and measures for others
		for _, other := range stages {
			if other.tests != "" {
				others = append(others, other.tests)
			}
		}
		return []string{"-skip", strings.Join(others, "|"), "./lab/system"}
	}
	return nil
}

// labPackages finds the packages with tests for guests below folders of the repository, which is the working directory.
func labPackages(folders []string) ([]string, error) {
	var out []string
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			if strings.HasSuffix(path, "_lab_test.go") {
				out = append(out, "./"+filepath.Dir(path))
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("run this in the repository's root: %w", err)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (s stage) environment() []string {
	if s.kernel == "" {
		return s.env
	}
	env := []string{"FERMATA_LAB_KERNEL=" + s.kernel, "FERMATA_LAB_DISKS=2G 2G", "FERMATA_LAB_TIMEOUT=38m", "FERMATA_LAB_ENV=" + strings.Join(s.env, " ")}
	if s.root {
		env = append(env, "FERMATA_LAB_ROOT_VOLUME=1")
	}
	if s.cuts > 0 {
		env = append(env, fmt.Sprintf("FERMATA_LAB_CUTS=%d", s.cuts))
	}
	if s.systemd {
		env = append(env, "FERMATA_LAB_SYSTEMD=1")
	}
	if s.bare || !s.systemd {
		env = append(env, "FERMATA_LAB_PROGRAMS=0")
	}
	return env
}
