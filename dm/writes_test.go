package dm

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	for _, c := range []struct {
		text string
		want Writes
		bad  string
	}{
		{text: "     100        2     800       10      200        4     1600       20        0       30       40        5        0       48        1        7        3\n",
			want: Writes{Written: 1600, Discarded: 48}},
		{text: "1 2 3 4 5 6 7 8 9 10 11\n", want: Writes{Written: 7}},
		{text: "", bad: "only 0 fields"},
		{text: "1 2 3 4 5", bad: "only 5 fields"},
		{text: "1 2 3 4 x 6 7 8 9 10 11", bad: "not a number"},
	} {
		check(t, parseStat, c.text, c.want, c.bad)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n")
	fuzz(f, parseStat, "block statistics")
}

// Every Linux has some block device; any will do.
func TestWriteCounter(t *testing.T) {
	found, err := filepath.Glob("/sys/dev/block/*/stat")
	if err != nil || len(found) == 0 {
		t.Fatalf("no block device in /sys: %v", err)
	}
	dev, err := ParseDev(filepath.Base(filepath.Dir(found[0])))
	if err != nil {
		t.Fatal(err)
	}
	w, err := OpenWriteCounter(dev.Major(), dev.Minor())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	n := testing.AllocsPerRun(100, func() {
		if _, err := w.Read(); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("Read allocates %v times", n)
	}
	if _, err := OpenWriteCounter(4095, 1<<20-1); err == nil || !strings.Contains(err.Error(), "/sys/dev/block/4095:1048575/stat") {
		t.Errorf("missing device: %v", err)
	}
}
