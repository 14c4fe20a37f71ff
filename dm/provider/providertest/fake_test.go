package providertest

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
)

func TestFake(t *testing.T) {
	Run(t, func(*testing.T) Bench { return &fakeBench{Storage: NewStorage()} })
}

type fakeBench struct {
	*Storage
	made uint32
}

func (b *fakeBench) Provider() provider.Provider { return NewFake("fake", b.Storage) }

func (b *fakeBench) LongestName(int) int { return 100 }

func (b *fakeBench) Origin(_ testing.TB, group int, name string) Origin {
	b.made++
	v := provider.Volume{Dev: dm.MkDev(253, b.made), Name: fmt.Sprintf("vg%d/%s", group, name), Size: 1 << 20, MountPoint: "/srv/" + name, FSType: "ext4"}
	b.Add(v)
	return &fakeOrigin{b, v}
}

func (b *fakeBench) Content(t testing.TB, device string) Content {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, err := b.device(device)
	if err != nil {
		t.Fatal(err)
	}
	return maps.Clone(i.content)
}

func (b *fakeBench) Write(t testing.TB, device, key, value string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, err := b.device(device)
	if err != nil || !i.Scratch && !i.open {
		t.Fatalf("cannot write to %s: %v", device, err)
	}
	i.content[key] = value
}

func (b *fakeBench) Traces(testing.TB) string {
	var out strings.Builder
	for _, s := range b.Snapshots() {
		fmt.Fprintf(&out, "%+v\n", s)
	}
	return out.String() + fmt.Sprint(b.Suspended(), b.Locked())
}

func (b *fakeBench) Remove(t testing.TB, snapshot string) {
	if err := b.Storage.Remove(snapshot); err != nil {
		t.Fatal(err)
	}
}

func (b *fakeBench) Others(t testing.TB, o Origin) {
	b.Put(provider.Snapshot{Name: o.Volume().Name + ".other"}, Content{})
	b.Remove(t, o.Volume().Name+".other")
}

func (b *fakeBench) Fill(testing.TB)  { b.Storage.Fill() }
func (b *fakeBench) Break(testing.TB) { b.Storage.Break() }

type fakeOrigin struct {
	b *fakeBench
	v provider.Volume
}

func (o *fakeOrigin) Volume() provider.Volume    { return o.v }
func (o *fakeOrigin) Content(testing.TB) Content { return o.b.Storage.Content(o.v.Dev) }
func (o *fakeOrigin) Freeze(testing.TB)          {}
func (o *fakeOrigin) Thaw(testing.TB)            {}
func (o *fakeOrigin) Suspend(testing.TB)         { o.b.Suspend(o.v.Dev, true) }
func (o *fakeOrigin) Resume(testing.TB)          { o.b.Suspend(o.v.Dev, false) }
func (o *fakeOrigin) Check(testing.TB)           {}

func (o *fakeOrigin) Write(t testing.TB, key, value string) {
	if err := o.b.Storage.Write(o.v.Dev, key, value); err != nil {
		t.Error(err)
	}
}

func (o *fakeOrigin) Suspended(testing.TB) bool {
	for _, dev := range o.b.Storage.Suspended() {
		if dev == o.v.Dev {
			return true
		}
	}
	return false
}
