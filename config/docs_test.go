package config

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const reference = "../docs/config.md"

// TestReference compares the keys in the tables of the reference with those of the schemas.
func TestReference(t *testing.T) {
	data, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z_.\\[\\]]+)` \\|")
	for _, c := range []struct {
		section string
		keys    []string
	}{
		{"fermata.yaml", daemonSchema.keys},
		{"policies.d", policySchema.keys},
		{"writers.d", writerSchema.keys},
		{"providers.d", providerSchema.keys},
	} {
		_, section, _ := strings.Cut(string(data), "\n## "+c.section+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		var documented []string
		for _, match := range row.FindAllStringSubmatch(section, -1) {
			documented = append(documented, match[1])
		}
		for _, key := range c.keys {
			if !slices.Contains(documented, key) {
				t.Errorf("%s: section %s has no row for %s", reference, c.section, key)
			}
		}
		for _, key := range documented {
			if !slices.Contains(c.keys, key) {
				t.Errorf("%s: section %s has a row for %s, which does not exist", reference, c.section, key)
			}
		}
	}
}

// TestExamples loads the examples of the reference together, as if somebody had copied them.
func TestExamples(t *testing.T) {
	data, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)\n```yaml\n# /etc/fermata/([a-z./]+)\n(.*?)```\n")
	var files []goldenFile
	for _, match := range example.FindAllStringSubmatch(string(data), -1) {
		files = append(files, goldenFile{match[1], match[2]})
	}
	if blocks := strings.Count(string(data), "```yaml\n"); len(files) != blocks || blocks < 5 {
		t.Errorf("%d of %d examples have a file name", len(files), blocks)
	}
	c, err := in(files...)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Problems) > 0 {
		t.Errorf("the examples have problems:\n%v", c.Problems)
	}
	if want := defaultDaemon(); !reflect.DeepEqual(c.Daemon, want) {
		t.Errorf("the example of fermata.yaml has\n%+v\nthe defaults are\n%+v", c.Daemon, want)
	}
	if len(c.Policies) != 2 || len(c.Writers) != 4 || c.Providers["thin"].File == "" {
		t.Errorf("not all examples were used: %+v", c)
	}
}
