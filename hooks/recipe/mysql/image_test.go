package mysql

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/hooks"
)

// The server on the image has the live one's files, and nothing of it leads outside.
func TestImageArguments(t *testing.T) {
	i := image{options: "/etc/own.cnf", server: server{variables: map[string]string{"datadir": "/d/", "log_bin": "ON", "log_bin_basename": "/l/bin",
		"log_bin_index": "/l/bin.index", "innodb_page_size": "8192", "relay_log_basename": "/d/relay"}}}
	args := i.arguments("/tmp/x")
	if args[0] != "--defaults-file=/etc/own.cnf" {
		t.Errorf("the first argument is %s", args[0])
	}
	for _, want := range []string{"--loose-datadir=/d/", "--log-bin=/l/bin", "--loose-log-bin-index=/l/bin.index", "--loose-innodb-page-size=8192",
		"--relay-log=/d/relay", "--skip-networking", "--loose-skip-slave-start", "--event-scheduler=OFF", "--socket=/tmp/x/socket", "--tmpdir=/tmp/x"} {
		if !slices.Contains(args, want) {
			t.Errorf("%s is missing in %q", want, args)
		}
	}
	i = image{server: server{variables: map[string]string{"datadir": "/d", "log_bin": "OFF"}}}
	if args := i.arguments("/tmp/x"); args[0] != "--loose-datadir=/d" || !slices.Contains(args, "--skip-log-bin") {
		t.Errorf("without a binary log: %q", args)
	}
}

func TestVerdict(t *testing.T) {
	says := func(kind, text string) row { return row{"msg_type": kind, "msg_text": text} }
	for name, test := range map[string]struct {
		said []row
		want string
	}{
		"good":      {[]row{says("status", "OK")}, ""},
		"open":      {[]row{says("warning", "1 client is using or hasn't closed the table properly"), says("status", "OK")}, ""},
		"as before": {[]row{says("status", "Table is already up to date")}, ""},
		"no check":  {[]row{says("note", "The storage engine for the table doesn't support check")}, ""},
		"damaged":   {[]row{says("Warning", "x"), says("Error", "Record-count is not ok"), says("status", "OK")}, "Record-count is not ok"},
		"corrupt":   {[]row{says("error", "Corrupt")}, "Corrupt"},
		"failed":    {[]row{says("status", "Operation failed")}, "Operation failed"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := verdict(test.said); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestOpenImageRefuses(t *testing.T) {
	top := t.TempDir()
	if err := os.WriteFile(filepath.Join(top, "ibdata1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		options  Options
		prepared map[string]any
		want     string
	}{
		"nothing known": {want: "name it with --data-directory"},
		"missing":       {prepared: map[string]any{"datadir": top, "innodb_log_group_home_dir": top + "/none"}, want: "cannot find InnoDB's log"},
		"no program":    {options: Options{DataDirectory: top, BinDirectory: top}, want: "no mariadbd or mysqld in " + top},
		"MySQL's":       {options: Options{BinDirectory: top}, prepared: map[string]any{"datadir": top, "server_version": "8.0.36"}, want: "no mysqld in " + top},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openImage(t.Context(), test.options, hooks.Request{Event: hooks.Event{Prepared: test.prepared}})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestExplained(t *testing.T) {
	log := "0 [Note] InnoDB: fine\n0 [ERROR] one\n[FATAL] two\n[Note] x\n[ERROR] 3\n[ERROR] 4\n[ERROR] 5\n"
	if got := explained(log); got != " (its log: 0 [ERROR] one | [FATAL] two | [ERROR] 3 | [ERROR] 4)" {
		t.Errorf("got %q", got)
	}
	if got := explained("[Note] fine\n"); got != "" {
		t.Errorf("got %q", got)
	}
}
