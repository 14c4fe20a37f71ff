package fsfreeze

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestParseMappings(t *testing.T) {
	const smaps = `00400000-00800000 r-xp 00000000 fe:00 1234                               /usr/sbin/fermatad
Size:               4096 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me lo
c000000000-c000400000 rw-p 00000000 00:00 0                              [anon: Go: heap]
Size:               4096 kB
Rss:                 512 kB
Swap:                128 kB
SwapPss:             100 kB
Locked:              512 kB
c000400000-c004000000 ---p 00000000 00:00 0 
Swap:                  0 kB
7f0000000000-7f0000001000 rw-s 00000000 00:01 77                         /memfd:board (deleted)
Swap:                  4 kB
THPeligible:           0
`
	got, err := parseMappings(strings.NewReader(smaps))
	want := []mapping{
		{0x400000, 0x800000, true, true, 0}, {0xc000000000, 0xc000400000, true, false, 128},
		{0xc000400000, 0xc004000000, false, false, 0}, {0x7f0000000000, 0x7f0000001000, true, true, 4},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"zz rw-p 0 00:00 0\n", "00400000-00800000 r-xp 0 fe:00 1\nSwap: x kB\n"} {
		if got, err := parseMappings(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: got %+v", bad, got)
		}
	}
	own, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if got, err := parseMappings(own); err != nil || len(got) < 5 || !slices.ContainsFunc(got, func(m mapping) bool { return m.file && m.readable }) {
		t.Errorf("of ours: %+v, %v", got, err)
	}
}
