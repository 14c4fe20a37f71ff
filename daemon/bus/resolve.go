package bus

import (
	"strings"

	"github.com/fermata-project/fermata/daemon/api"
)

// resolve finds the set that a requester names: by its id, by a prefix of one id only, as "latest", or as
// "latest:POLICY". Sets are in order of time, newest last. Errors are of class NotFound.
func resolve(sets []api.Manifest, ref string) (*api.Manifest, error) {
	if len(ref) > maxIDLength {
		return nil, api.Errorf(api.Invalid, "the id of a set has at most %d characters", maxIDLength)
	}
	if policy, ok := latest(ref); ok {
		return newest(sets, policy)
	}
	var found []*api.Manifest
	for i := range sets {
		m := &sets[i]
		if m.ID == ref {
			return m, nil
		}
		if ref != "" && strings.HasPrefix(m.ID, ref) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		return nil, api.Errorf(api.NotFound, "there is no set %q; see fermata snapshot list", ref)
	case 1:
		return found[0], nil
	}
	return nil, api.Errorf(api.NotFound, "%q is the beginning of %d sets (%s, %s…); name more of it",
		ref, len(found), found[0].ID, found[1].ID)
}

func latest(ref string) (policy string, ok bool) {
	if ref == "latest" {
		return "", true
	}
	return strings.CutPrefix(ref, "latest:")
}

// newest set, of a policy if one is named.
func newest(sets []api.Manifest, policy string) (*api.Manifest, error) {
	for i := len(sets) - 1; i >= 0; i-- {
		if policy == "" || sets[i].Policy == policy {
			return &sets[i], nil
		}
	}
	if policy != "" {
		return nil, api.Errorf(api.NotFound, "there is no set of policy %q", policy)
	}
	return nil, api.Errorf(api.NotFound, "there is no set yet")
}

// onBus reports whether an id can be the last part of an object path. Every id that Fermata makes can.
func onBus(id string) bool {
	if id == "" || len(id) > maxIDLength {
		return false
	}
	return strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}
