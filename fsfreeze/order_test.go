package fsfreeze

import (
	"strings"
	"testing"
)

func TestOrder(t *testing.T) {
	fs := func(dev uint64, point string) Filesystem {
		return Filesystem{Dev: dev, Mounts: []Mount{{Point: point}}}
	}
	tests := []struct {
		name   string
		layers []Layer
		want   string
	}{
		{"none", nil, ""},
		{"one", []Layer{{FS: fs(1, "/a")}}, "/a"},
		{"independent", []Layer{{FS: fs(1, "/a")}, {FS: fs(2, "/b")}}, "/a /b"},
		{"root last", []Layer{{FS: fs(1, "/")}, {FS: fs(2, "/b")}}, "/b | /"},
		{"root alone", []Layer{{FS: fs(1, "/")}}, "/"},
		{"loop before its file", []Layer{{FS: fs(1, "/srv")}, {FS: fs(2, "/img"), Holds: []uint64{1}}}, "/img | /srv"},
		{"loop on a loop", []Layer{{FS: fs(1, "/srv")}, {FS: fs(2, "/img"), Holds: []uint64{1}}, {FS: fs(3, "/in"), Holds: []uint64{2, 1}}, {FS: fs(4, "/x")}}, "/in /x | /img | /srv"},
		{"loop on root", []Layer{{FS: fs(1, "/")}, {FS: fs(2, "/img"), Holds: []uint64{1}}, {FS: fs(3, "/home")}}, "/img /home | /"},
		{"root on a loop", []Layer{{FS: fs(1, "/"), Holds: []uint64{2}}, {FS: fs(2, "/host")}, {FS: fs(3, "/home")}}, "/ /home | /host"},
		{"its file is not in the set", []Layer{{FS: fs(2, "/img"), Holds: []uint64{9}}, {FS: fs(3, "/home")}}, "/img /home"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var levels []string
			for _, l := range Order(tt.layers) {
				var points []string
				for _, f := range l {
					points = append(points, f.Point())
				}
				levels = append(levels, strings.Join(points, " "))
			}
			if got := strings.Join(levels, " | "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
