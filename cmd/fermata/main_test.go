package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fermata-project/fermata/daemon/bus"
	"github.com/fermata-project/fermata/daemon/bus/bustest"
	"github.com/fermata-project/fermata/daemon/client"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"fermata": main})
}

type fakeKey struct{}

// TestScripts runs each script against a fake service of its own on a private bus. Besides testscript's commands there
// are: exits STATUS PROGRAM ARG…, which checks the exit status (any: not), and set POLICY, damage ID, which change the fake.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		UpdateScripts:      os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			tb := env.T().(testing.TB)
			address := bustest.Daemon(tb)
			fake := &bustest.Fake{Undo: 50 * time.Millisecond}
			bustest.Serve(tb, address, bus.New(fake, bustest.Anybody, nil))
			env.Values[fakeKey{}] = fake
			env.Setenv(client.AddressVariable, address)
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				got := 0
				var exit *exec.ExitError
				if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
					got = exit.ExitCode()
				} else {
					ts.Check(err)
				}
				if want := args[0]; want != "any" && want != strconv.Itoa(got) {
					ts.Fatalf("exit status %d, want %s", got, want)
				}
			},
			"set": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Value(fakeKey{}).(*bustest.Fake).Add(args[0])
			},
			"damage": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Value(fakeKey{}).(*bustest.Fake).Damage(args[0])
			},
		},
	})
}
