package daemon

import (
	"errors"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/providertest"
)

// verdicts in words, newest set first.
func verdicts(list []api.Verdict) string {
	var out []string
	for _, v := range list {
		word := "drop"
		switch {
		case v.Keep:
			word = "keep"
		case v.Deleted:
			word = "deleted"
		case v.Error != "":
			word = "failed"
		}
		out = append(out, word+" ("+strings.Join(v.Reasons, ", ")+")")
	}
	return strings.Join(out, "; ")
}

func TestPrune(t *testing.T) {
	w := newWorld(t)
	w.policy.Volumes = w.policy.Volumes[:3]
	w.policy.Retention = config.Retention{Last: 1, Minimum: 1}
	d := w.daemon()
	var ids []string
	for range 3 {
		m, err := w.take(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.ID)
	}
	// A set of the same policy that another host has taken.
	w.storage["alpha"].Put(provider.Snapshot{Provider: "alpha", Set: provider.Set{ID: "20200101T000000_beef", Policy: "p", Members: 1}, Machine: "0123456789abcdef",
		Name: "alpha/a.other", Origin: "alpha/a", Consistency: "filesystem"}, providertest.Content{})
	d.o.Machine = "fedcba9876543210"
	if err := d.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.MountSet(t.Context(), ids[1], api.MountOptions{}); err != nil {
		t.Fatal(err)
	}
	const plan = "keep (last); keep (it is mounted); "
	got, err := d.PrunePolicy(t.Context(), "p", true)
	if err != nil || verdicts(got) != plan+"drop (no rule keeps it)" || len(d.Sets()) != 5 {
		t.Errorf("a dry run: %s, %v; %d sets", verdicts(got), err, len(d.Sets()))
	}
	p := d.Policies()
	if len(p) != 1 || p[0].Sets != 3 || !p[0].Prunes || p[0].Last.IsZero() {
		t.Errorf("policies: %+v", p)
	}

	// One that cannot be deleted stays, and says why.
	stuck := errors.New("no more descriptors")
	w.tap = func(call string, after bool) error {
		if strings.HasPrefix(call, "Mark ") && !after {
			return stuck
		}
		return nil
	}
	got, err = d.PrunePolicy(t.Context(), "p", false)
	if err != nil || verdicts(got) != plan+"failed (no rule keeps it)" || !strings.Contains(got[2].Error, stuck.Error()) {
		t.Errorf("stuck: %s, %+v, %v", verdicts(got), got, err)
	}
	w.tap = nil
	got, err = d.PrunePolicy(t.Context(), "p", false)
	if err != nil || verdicts(got) != plan+"deleted (no rule keeps it)" || len(d.Sets()) != 4 || d.exists(ids[0]) {
		t.Errorf("%s, %v; %d sets", verdicts(got), err, len(d.Sets()))
	}
	if err := d.UmountSet(t.Context(), ids[1]); err != nil {
		t.Fatal(err)
	}
	got, err = d.PrunePolicy(t.Context(), "p", false)
	if err != nil || verdicts(got) != "keep (last); deleted (no rule keeps it)" {
		t.Errorf("%s, %v", verdicts(got), err)
	}
	if _, err := d.PrunePolicy(t.Context(), "nosuch", false); api.Of(err) != api.Invalid {
		t.Errorf("an unknown policy: %v", err)
	}
	if !d.exists(ids[2]) || len(d.Sets()) != 3 {
		t.Errorf("left: %d sets", len(d.Sets()))
	}
}
