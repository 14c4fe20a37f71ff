package loop

import (
	"slices"
	"testing"
	"testing/fstest"
)

func TestOf(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	sys := fstest.MapFS{
		"block/loop0/size":               file("0\n"), // nothing attached
		"block/loop1/loop/backing_file":  file("/srv/a.cow\n"),
		"block/loop2/loop/backing_file":  file("/srv/a.cow.old\n"),
		"block/loop3/loop/backing_file":  file("/srv/a.cow (deleted)\n"),
		"block/loop4/loop/backing_file":  file("/srv/two\nlines\n"),
		"block/sda/loop/backing_file":    file("/srv/a.cow\n"), // no loop device
		"block/loop10/loop/backing_file": file("/srv/a.cow\n"),
	}
	for _, test := range []struct {
		file string
		want []string
	}{
		{"/srv/a.cow", []string{"/dev/loop1", "/dev/loop10", "/dev/loop3"}},
		{"/srv/two\nlines", []string{"/dev/loop4"}},
		{"/srv/none", nil},
	} {
		got, err := Of(sys, test.file)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%q: got %q, %v, want %q", test.file, got, err, test.want)
		}
	}
}
