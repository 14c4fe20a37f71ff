package providertest

import (
	"math/rand/v2"
	"testing"

	"github.com/fermata-project/fermata/dm/provider"
)

// load: a snapshot of a busy volume is what the volume was at the instant, to the last byte, and stays so.
func (s *suite) load(t *testing.T) {
	whole, ok := s.Bench.(Whole)
	if !ok {
		return
	}
	stop := whole.Load(t, s.one)
	defer stop()
	p := s.Provider()
	x := newSet(t, p, s.one)
	x.cow = s.one.Volume().Size // it shall not overflow
	x.until("Commit")
	if err := onThread(x.part.PostCommit); err != nil {
		x.undo()
		t.Fatalf("PostCommit: %v", err)
	}
	want := whole.Sum(t, "/dev/mapper/"+s.one.Volume().Device) // still frozen, and so what was captured
	x.thaw()
	for _, stage := range []string{"Unlock", "Verify", "Finalize"} {
		if err := x.do(stage); err != nil {
			x.undo()
			t.Fatalf("%s: %v", stage, err)
		}
	}
	device, err := p.Expose(t.Context(), x.snaps[0])
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the volume goes on changing
		if got := whole.Sum(t, device); got != want {
			t.Errorf("the snapshot's checksum is %s, the volume's was %s", got, want)
		}
	}
	if err := p.Hide(t.Context(), x.snaps[:1]); err != nil {
		t.Error(err)
	}
	x.delete()
}

// overflow: a copy-on-write area that overflows costs its snapshot, which then says so, and nothing else.
func overflow(t *testing.T, b Bench, o Origin) {
	before := b.Traces(t)
	other := newSet(t, b.Provider(), o) // of the same volume, with room
	other.cow = o.Volume().Size
	want := o.Content(t)
	other.until("Finalize")
	x := newSet(t, b.Provider(), o)
	x.cow = 12 << 20 // a filesystem that is new may write some megabytes of its own
	x.until("Finalize")

	u, err := b.Provider().(provider.Usager).Usage(x.snaps[0])
	if err != nil || u.Invalid || u.Used >= u.Size || u.Metadata > u.Used || u.Size < x.cow {
		t.Errorf("usage of a new snapshot: %+v, %v", u, err)
	}
	noise := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{})
	for i, last := 0, u.Used; !u.Invalid; i++ {
		if i == 24 {
			t.Fatalf("not overflowed: %+v", u)
		}
		random.Read(noise)
		o.Write(t, "noise", string(noise)) // in place or elsewhere: origins are filled soon enough
		o.Write(t, "noise"+string(rune('a'+i)), string(noise))
		if u, err = b.Provider().(provider.Usager).Usage(x.snaps[0]); err != nil {
			t.Fatal(err)
		}
		if !u.Invalid && u.Used < last {
			t.Errorf("used %d after %d", u.Used, last)
		}
		last = u.Used
	}
	if l := x.listed(); len(l) != 1 || l[0].Invalid == "" || l[0].Armed {
		t.Errorf("listed: %+v", l)
	}
	if device, err := b.Provider().Expose(t.Context(), x.snaps[0]); err == nil {
		t.Errorf("a lost snapshot was exposed at %s", device)
	}
	if l := other.listed(); len(l) != 1 || l[0].Invalid != "" {
		t.Errorf("listed: %+v", l)
	}
	other.shows(b, other.snaps[0], want)
	writable(t, o)
	o.Check(t)
	x.delete()
	other.delete()
	if after := b.Traces(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}
