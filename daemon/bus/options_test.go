package bus

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

// FuzzOptions feeds every option with values of every kind: whatever comes, a request within the limits or an error of
// class Invalid that is text.
func FuzzOptions(f *testing.F) {
	f.Add("policy", "db", uint64(1), true, uint8(0))
	f.Add("volumes", "/srv,/home", uint64(0), false, uint8(1))
	f.Add("labels", "a", uint64(1<<63), true, uint8(2))
	f.Add("retry_wait_ns", "", ^uint64(0), true, uint8(3))
	f.Add("retry", "\xff", uint64(11), true, uint8(4))
	f.Add("nosuch\x00", strings.Repeat("x", 5000), uint64(0), true, uint8(5))
	f.Fuzz(func(t *testing.T, key, text string, number uint64, flag bool, kind uint8) {
		values := []any{text, strings.Split(text, ","), map[string]string{text: text}, number, uint32(number), flag, int32(number),
			[]any{dbus.MakeVariant(text)}}
		o := options{key: dbus.MakeVariant(values[int(kind)%len(values)]), "dry_run": dbus.MakeVariant(flag)}
		if number%2 == 0 {
			o["policy"] = dbus.MakeVariant("db")
		}
		r, _, err := decodeRequest(o)
		if err != nil {
			if api.Of(err) != api.Invalid || !utf8.ValidString(err.Error()) || len(err.Error()) > 1000 {
				t.Fatalf("%q, of class %s", err, api.Of(err))
			}
			return
		}
		if len(r.Volumes) > maxVolumes || len(r.Labels) > maxLabels || r.Retry < 0 || r.Retry > maxRetry || r.RetryWait < 0 || r.RetryWait > maxRetryWait {
			t.Fatalf("a request beyond the limits: %+v", r)
		}
		if _, err := decodeMountOptions(o); err == nil && len(o) > 0 {
			t.Fatalf("mount options %v were taken", o)
		}
	})
}

// FuzzResolve: a name finds a set that it names, or none.
func FuzzResolve(f *testing.F) {
	for _, s := range []string{"", "latest", "latest:", "latest:db", "2026", "20261120T114653_0001", "x\xff"} {
		f.Add(s)
	}
	sets := []api.Manifest{{ID: "20261120T114653_0001", Policy: "db"}, {ID: "20261120T114654_0002"}}
	f.Fuzz(func(t *testing.T, ref string) {
		m, err := resolve(sets, ref)
		if (m == nil) == (err == nil) {
			t.Fatalf("%v, %v", m, err)
		}
		if err == nil && !strings.HasPrefix(m.ID, ref) && !strings.HasPrefix(ref, "latest") {
			t.Fatalf("%q found %s", ref, m.ID)
		}
	})
}

func TestDiffSets(t *testing.T) {
	d := diffSets(map[string]setView{"a": 1, "b": 1, "c": 1}, map[string]setView{"b": 2, "c": 1, "e": 1, "d": 1})
	if got := strings.Join(d.added, "") + "|" + strings.Join(d.changed, "") + "|" + strings.Join(d.removed, ""); got != "de|b|a" {
		t.Error(got)
	}
}

func TestOnBus(t *testing.T) {
	for id, want := range map[string]bool{"20261120T114653_7f3a": true, "": false, "a/b": false, "a-b": false, "ä": false, strings.Repeat("x", 256): false} {
		if onBus(id) != want {
			t.Errorf("onBus(%q) = %v", id, !want)
		}
	}
}
