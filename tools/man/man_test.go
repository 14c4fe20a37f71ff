package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// described asks a program of the project for its verbs.
func described(t *testing.T, program string) verb {
	t.Helper()
	out, err := exec.Command("go", "run", "-C", "../..", "./cmd/"+program, "reference").Output()
	if err != nil {
		t.Fatal(err)
	}
	var v verb
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// All that can be typed or written stands in a page: each verb, each option, each key of the configuration, each flag of the services.
func TestNothingIsMissing(t *testing.T) {
	fermata, writer := described(t, "fermata"), described(t, "fermata-writer")
	all, err := pages("../../docs", fermata, writer)
	if err != nil {
		t.Fatal(err)
	}
	text := map[string]string{}
	for _, p := range all {
		text[p.name] = p.text
	}
	has := func(page, what string) {
		t.Helper()
		if !strings.Contains(text[page], what) {
			t.Errorf("%s does not speak of %s", page, what)
		}
	}
	for page, root := range map[string]verb{"fermata": fermata, "fermata-writer": writer} {
		for _, v := range root.leaves() {
			has(page, "\n"+v.Usage+"\n")
			for _, o := range v.Options {
				has(page, "**--"+o.Name+"**")
			}
		}
	}
	for _, status := range []string{"0", "1", "2", "3", "4", "75"} {
		has("fermata", "\n"+status+"\n: ")
	}
	keys, err := os.ReadFile("../../docs/config.md") // its own test compares these with the schema
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| (`[a-z_.\\[\\]]+`) \\|").FindAllStringSubmatch(string(keys), -1)
	if len(rows) < 80 {
		t.Errorf("docs/config.md has %d keys", len(rows))
	}
	for _, row := range rows {
		has("fermata.yaml", "\n"+row[1]+"\n: ")
	}
	for _, service := range []string{"fermatad", "fermata-guard", "fermata-exporter"} {
		source, err := os.ReadFile(filepath.Join("../../cmd", service, "main.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, flag := range regexp.MustCompile(`flag\.[A-Z][a-z]+\("([a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
			has(service, "**-"+flag[1]+"**")
		}
	}
}

func TestDefinitions(t *testing.T) {
	table := "| key | value | default | meaning |\n|---|---|---|---|\n| `a.b` | `x` \\| `y` | `5%` | see [config.md](config.md#a) |\n| `c` | mapping | | |\n"
	want := "\n`a.b`\n: `x` | `y`; default `5%`. see fermata.yaml(5)\n\n`c`\n: mapping\n\n"
	if got := forMan(table); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestTakeOptions(t *testing.T) {
	rest, documented := takeOptions("Before.\n\n| option | |\n|---|---|\n| `-q`, `--quiet` | names only |\n| `--provider NAME` | one |\n| `--provider V=NAME` | another |\n\nAfter.\n")
	if rest != "Before.\n\n\nAfter.\n" {
		t.Errorf("the rest is %q", rest)
	}
	if documented["quiet"] != "names only" || documented["provider"] != "one; `--provider V=NAME`: another" {
		t.Errorf("%q", documented)
	}
}
