package client_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-project/fermata/daemon/api"
)

func TestUse(t *testing.T) {
	c, fake, _ := connect(t)
	want := []api.UseRequest{
		{Request: api.Request{Policy: "db"}, Mount: api.MountOptions{Target: "/mnt/x"}},
		{Request: api.Request{Volumes: []string{"/srv"}, Writers: []string{"w"}, FailIfBusy: true}, Mount: api.MountOptions{Writable: true}, Keep: true},
	}
	for i, r := range want {
		m, err := c.Use(t.Context(), r, func(m *api.Manifest) bool {
			if len(m.Mounts) == 0 {
				t.Error("it is not mounted")
			}
			return i == 0
		}, nil)
		if err != nil || m == nil {
			t.Fatalf("got %+v, %v", m, err)
		}
	}
	sets := fake.Sets()
	if len(sets) != 1 || len(sets[0].Mounts) != 0 {
		t.Fatalf("there are %+v", sets)
	}
	want = append(want, api.UseRequest{Set: sets[0].ID})
	if _, err := c.Use(t.Context(), api.UseRequest{Set: "latest"}, func(*api.Manifest) bool { return true }, nil); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, fake.Uses()); diff != "" {
		t.Errorf("the requests changed on the bus (-sent +arrived):\n%s", diff)
	}
	if _, released := fake.Holds(); !slices.Equal(released, []bool{true, false, true}) {
		t.Errorf("released %v", released)
	}
	for _, r := range []api.UseRequest{{}, {Request: api.Request{Policy: "broken"}}, {Set: "nothing"}, {Set: "latest", Keep: true},
		{Request: api.Request{Policy: "db", DryRun: true}}, {Request: api.Request{Policy: "db"}, Mount: api.MountOptions{Target: "x"}}} {
		if _, err := c.Use(t.Context(), r, func(*api.Manifest) bool { t.Errorf("acted for %+v", r); return true }, nil); err == nil {
			t.Errorf("no error for %+v", r)
		}
	}
}
