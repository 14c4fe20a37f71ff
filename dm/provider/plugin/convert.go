package plugin

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
)

// refusal is an error of the plug-in with Fermata's own meaning of its code.
func refusal(e *protocol.Error) error {
	meaning := map[protocol.Code]error{
		protocol.NoRoom: provider.ErrNoRoom, protocol.Unhealthy: provider.ErrPool, protocol.Changed: provider.ErrChanged,
		protocol.Unsupported: errors.ErrUnsupported,
	}[e.Code]
	if meaning == nil {
		return e
	}
	return fmt.Errorf("%w: %s", meaning, e.Message)
}

func toVolume(v provider.Volume) protocol.Volume {
	return protocol.Volume{
		Dev: v.Dev.String(), DMName: v.Device, DMUUID: v.UUID, Name: v.Name, Size: v.Size,
		MountPoint: v.MountPoint, FSType: v.FSType, Used: v.Used, COW: v.COW,
	}
}

func toVolumes(vols []provider.Volume) []protocol.Volume {
	out := make([]protocol.Volume, len(vols))
	for i, v := range vols {
		out[i] = toVolume(v)
	}
	return out
}

// speakable is nil if the protocol can carry the volume's names: JSON is UTF-8, paths are bytes.
func speakable(v provider.Volume) error {
	for _, text := range []string{v.Name, v.Device, v.MountPoint} {
		if !utf8.ValidString(text) {
			return fmt.Errorf("%q is not UTF-8, and a plug-in is told nothing else", text)
		}
	}
	return nil
}

func toSet(s provider.Set) protocol.Set { return protocol.Set(s) }

func toSnapshot(s provider.Snapshot) protocol.Snapshot {
	return protocol.Snapshot{
		Name: s.Name, Set: toSet(s.Set), Origin: s.Origin, Armed: s.Armed, Scratch: s.Scratch, MountPoint: s.MountPoint,
		FSType: s.FSType, Consistency: s.Consistency, Created: s.Created, Size: s.Size, Options: s.Options,
		Volatile: s.Volatile, Invalid: s.Invalid, Omits: s.Omits,
	}
}

func toSnapshots(snaps []provider.Snapshot) []protocol.Snapshot {
	out := make([]protocol.Snapshot, len(snaps))
	for i, s := range snaps {
		out[i] = toSnapshot(s)
	}
	return out
}

// maxName bounds what a plug-in calls things, in bytes.
const maxName = 1024

// fromSnapshot believes a snapshot if it is possible.
func (p *Provider) fromSnapshot(s protocol.Snapshot) (provider.Snapshot, error) {
	for _, text := range []string{s.Name, s.Set.ID, s.Origin} {
		if err := checkName(text); err != nil {
			return provider.Snapshot{}, fmt.Errorf("it lists a snapshot that cannot be: %w", err)
		}
	}
	if s.Set.Members < 0 || len(s.MountPoint) > 4096 || len(s.Options) > maxName || len(s.Invalid) > maxName {
		return provider.Snapshot{}, fmt.Errorf("it lists a snapshot that cannot be: %q", s.Name)
	}
	return provider.Snapshot{
		Provider: p.Name(), Set: provider.Set(s.Set), Name: s.Name, Origin: s.Origin, Armed: s.Armed, Scratch: s.Scratch,
		MountPoint: s.MountPoint, FSType: s.FSType, Consistency: s.Consistency, Created: s.Created, Size: s.Size,
		Options: s.Options, Volatile: s.Volatile, Invalid: s.Invalid, Omits: protocol.Omitted(s.Omits),
	}, nil
}

func (p *Provider) fromSnapshots(snaps []protocol.Snapshot) ([]provider.Snapshot, error) {
	var out []provider.Snapshot
	var errs []error
	for _, s := range snaps {
		x, err := p.fromSnapshot(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, x)
	}
	return out, errors.Join(errs...)
}

func checkName(text string) error {
	if text == "" || len(text) > maxName || protocol.Printable(text, maxName) != text {
		return fmt.Errorf("%q is no name", protocol.Printable(text, 100))
	}
	return nil
}
