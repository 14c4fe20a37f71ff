package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
)

// record tells of a snapshot what the kernel does not. It is written before anything of the snapshot exists, and removed
// after everything of it is gone: what a crash leaves is found by it.
type record struct {
	Version     int
	Name        string
	Device      string // the origin's number: true as long as devices of the record exist
	Set         Set
	Origin      string
	MountPoint  string `json:",omitempty"`
	FSType      string `json:",omitempty"`
	Options     string `json:",omitempty"`
	Size        uint64
	COW         uint64
	Armed       bool
	Consistency string `json:",omitempty"`
	Created     int64  `json:",omitempty"`
}

const (
	recordVersion = 1
	recordEnd     = ".fermata.json"
	newEnd        = ".new"   // of a record that is being written
	maxRecord     = 64 << 10 // bytes: paths have at most 4096
)

func (r record) origin() dm.Dev { dev, _ := dm.ParseDev(r.Device); return dev }
func (r record) uuid() string   { return snapUUID + r.Device + "-" + r.Set.ID }

func (r record) snapshot() Snapshot {
	return Snapshot{
		Provider: "dm", Set: r.Set, Name: r.Name, Origin: r.Origin, Armed: r.Armed, MountPoint: r.MountPoint, FSType: r.FSType, Options: r.Options,
		Consistency: r.Consistency, Created: r.Created, Size: r.Size, Volatile: true,
	}
}

func (p *DM) recordPath(name string) string {
	return filepath.Join(p.storage.records(), name+recordEnd)
}

// write makes a record durable, in whole or not at all.
func (p *DM) write(r record) error {
	r.Version = recordVersion
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := p.recordPath(r.Name)
	temp := path + newEnd
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write the record of snapshot %s: %w", r.Name, err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err == nil {
		err = p.syncStorage()
	}
	if err != nil {
		return fmt.Errorf("cannot write the record of snapshot %s: %w", r.Name, err)
	}
	return nil
}

func (p *DM) syncStorage() error {
	d, err := os.Open(p.storage.records())
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// records reads all of them. One that cannot be read stands for its name alone: it was cut short by a power cut, after
// which no snapshot of it exists.
func (p *DM) records() ([]record, error) {
	if p.storage == nil {
		return nil, nil
	}
	entries, err := os.ReadDir(p.storage.records())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the records of snapshots: %w", err)
	}
	var out []record
	seen := map[string]bool{}
	for _, e := range entries {
		name, ok := strings.CutSuffix(strings.TrimSuffix(e.Name(), newEnd), recordEnd)
		if !ok || !e.Type().IsRegular() || seen[name] {
			continue
		}
		seen[name] = true
		r, err := p.record(name)
		if err != nil {
			r = record{Name: name}
		}
		out = append(out, r)
	}
	return out, nil
}

func (p *DM) record(name string) (record, error) {
	f, err := os.OpenFile(p.recordPath(name), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return record{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return record{}, err
	}
	return parseRecord(name, b)
}

func parseRecord(name string, b []byte) (record, error) {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, fmt.Errorf("cannot read the record of snapshot %s: %w", name, err)
	}
	if r.Version != recordVersion || r.Name != name || r.Set.ID == "" || r.origin() == 0 || r.origin().String() != r.Device {
		return record{}, fmt.Errorf("cannot read the record of snapshot %s: it is not one of this version", name)
	}
	return r, nil
}
