//go:build lab

package packages

import (
	"strings"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
)

// rpm has a database of its own here, and knows none of Debian's packages: what the package needs is there all the same.
var rpm = manager{
	files:   "fermata-*-1.*.rpm",
	install: []string{"rpm", "--force-debian", "--nodeps", "-U", "--oldpackage"},
	remove:  []string{"rpm", "--force-debian", "--nodeps", "-e", "fermata"},
}

// The same life with rpm, which calls the scripts in another order: at an upgrade those before and after a removal come last, from the
// package that goes.
func TestRPM(t *testing.T) {
	h := settle(t, rpm)
	if out, status := labtest.Try(t, "rpm", "-V", "--nodeps", "--noscripts", "fermata"); status != 1 || out != "S.5....T.  c /etc/fermata/fermata.yaml\n" {
		t.Errorf("installed is not what was packed: exit status %d:\n%s", status, out)
	}
	t.Run("while a set is taken", func(t *testing.T) { during(t, rpm, h.volume) })
	t.Run("while a set is mounted", func(t *testing.T) { h.mounted(t, rpm) })
	labtest.Run(t, "rpm", "--force-debian", "--nodeps", "--reinstall", rpm.file(t, "0.0.2"))
	h.upgraded(t)
	h.removed(t, rpm)
	labtest.Run(t, "test", "-e", "/etc/fermata/fermata.yaml.rpmsave")
	if out, status := labtest.Try(t, "rpm", "-q", "fermata"); status == 0 || !strings.Contains(out, "not installed") {
		t.Errorf("exit status %d: %s", status, out)
	}
	labtest.Run(t, "rm", "-r", "/etc/fermata", "/var/lib/fermata")
}
