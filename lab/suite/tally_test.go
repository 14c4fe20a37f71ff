package main

import (
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	got := count(strings.NewReader(`{"Action":"start","Package":"github.com/fermata-project/fermata/dm"}
{"Action":"output","Package":"github.com/fermata-project/fermata/dm","Test":"TestA","Output":"fine\n"}
{"Action":"output","Package":"github.com/fermata-project/fermata/dm","Test":"TestA","Output":"note: 3 cases\n"}
{"Action":"pass","Package":"github.com/fermata-project/fermata/dm","Test":"TestA","Elapsed":0.4}
{"Action":"pass","Package":"github.com/fermata-project/fermata/dm","Test":"TestD","Elapsed":12}
{"Action":"pass","Package":"github.com/fermata-project/fermata/dm","Test":"TestD/sub","Elapsed":11}
{"Action":"output","Package":"github.com/fermata-project/fermata/dm","Test":"TestB","Output":"bad\n"}
{"Action":"fail","Package":"github.com/fermata-project/fermata/dm","Test":"TestB"}
{"Action":"skip","Package":"github.com/fermata-project/fermata/dm","Test":"TestC"}
{"Action":"fail","Package":"github.com/fermata-project/fermata/dm"}
{"Action":"skip","Package":"github.com/fermata-project/fermata/lab/labtest"}
not JSON
`))
	if strings.Join(got.notes, ",") != "3 cases" {
		t.Errorf("notes: %q", got.notes)
	}
	if got.passed != 3 || strings.Join(got.failed, ",") != "dm TestB,dm" || strings.Join(got.skipped, ",") != "dm TestC" || got.ok() {
		t.Errorf("got %+v", got)
	}
	if s := got.slowest(5); s != "dm TestD 12 s, dm TestA 0 s" || got.slowest(1) != "dm TestD 12 s" {
		t.Errorf("slowest: %q", s)
	}
	out := got.output()
	if !strings.Contains(out, "bad\n") || !strings.Contains(out, "not JSON") || strings.Contains(out, "fine") {
		t.Errorf("output: %q", out)
	}
}
