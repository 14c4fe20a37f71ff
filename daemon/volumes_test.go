package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/providertest"
	"github.com/fermata-project/fermata/fsfreeze"
)

func (h tableHost) BlockDevices() ([]uint64, error) {
	var devs []uint64
	for dev := range h.stacks {
		devs = append(devs, dev)
	}
	slices.Sort(devs)
	return devs, nil
}

func (h tableHost) Devices(f fsfreeze.Filesystem) ([]uint64, error) {
	switch {
	case f.Source == "lost":
		return nil, errors.New("no btrfs has it")
	case f.Type == "btrfs":
		return []uint64{h.devices[h.dir+"/dev/vg-raw"], h.devices[h.dir+"/dev/crypt"]}, nil
	case unix.Major(f.Dev) == 0:
		return nil, nil
	}
	return []uint64{f.Dev}, nil
}

func (tableHost) Targets(uint64) ([]string, error) { return []string{"linear"}, nil }

func TestVolumes(t *testing.T) {
	h := table(t)
	alpha, beta := providertest.NewStorage(), providertest.NewStorage()
	alpha.Add(provider.Volume{Dev: dm.MkDev(253, 1), Name: "vg/a"})
	alpha.Add(provider.Volume{Dev: dm.MkDev(253, 6), Name: "vg/raw"})
	beta.Add(provider.Volume{Dev: dm.MkDev(253, 3), Name: "vg/img"})
	d := New(Options{Config: &config.Config{}, Host: h, Providers: []provider.Provider{providertest.NewFake("alpha", alpha), providertest.NewFake("beta", beta)}})

	describe := func() string {
		t.Helper()
		volumes, err := d.Volumes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, v := range volumes {
			if v.Stack == nil || v.Freezable == (v.Unfrozen != "") || v.Provider == "" && v.Problem == "" {
				t.Errorf("got %+v", v)
			}
			lines = append(lines, fmt.Sprintf("%s %s at %v by %q, freezable %v, refused by %d, from %s %s", v.Name, v.FSType, v.MountPoints, v.Provider, v.Freezable, len(v.Refused), v.Stack.Kind, v.Stack.Name))
		}
		return strings.ReplaceAll(strings.Join(lines, "\n"), h.dir, "")
	}
	want := `vg-both ext4 at [/both] by "", freezable true, refused by 2, from mount /both
vg-esp vfat at [/esp] by "", freezable false, refused by 2, from mount /esp
vg-over ext4 at [/over] by "", freezable true, refused by 2, from mount /over
vg-top ext4 at [/over] by "", freezable true, refused by 2, from mount /over
vg-xfs xfs at [/xfs] by "", freezable false, refused by 0, from mount /xfs
vg/a ext4 at [/srv /bind] by "alpha", freezable true, refused by 1, from mount /srv
vg/img ext4 at [/img] by "beta", freezable true, refused by 1, from mount /img
vg/raw  at [] by "alpha", freezable false, refused by 1, from device-mapper vg-raw`
	if got := describe(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	// A btrfs over two devices is one volume, and one whose devices nobody knows is one too.
	h.mounts = append(h.mounts,
		fsfreeze.Mount{ID: 98, Dev: unix.Mkdev(0, 40), Point: h.dir + "/pair", Root: "/", FSType: "btrfs", Source: "/dev/mapper/vg-raw"},
		fsfreeze.Mount{ID: 99, Dev: unix.Mkdev(0, 41), Point: h.dir + "/lost", Root: "/", FSType: "btrfs", Source: "lost"})
	d.o.Host = h
	got := describe()
	for _, line := range []string{
		`/lost btrfs at [/lost] by "", freezable false, refused by 0, from mount /lost`,
		`vg-raw btrfs at [/pair] by "", freezable false, refused by 0, from mount /pair`,
	} {
		if !strings.Contains(got, line) {
			t.Errorf("got\n%s\nwithout\n%s", got, line)
		}
	}
	if strings.Contains(got, "vg/raw") {
		t.Errorf("a device of a mounted filesystem stands alone:\n%s", got)
	}
}
