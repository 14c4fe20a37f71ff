package provider

import "github.com/fermata-project/fermata/dm"

// Suspension is a device that is suspended while a set is captured, for providers outside this package. It leaves to the
// guard what the guard has taken over.
type Suspension struct{ origin }

// NewSuspension takes the prepared ioctls of a device: info asks for its state, and the others must skip the filesystem freeze.
func NewSuspension(dev dm.Dev, name string, info query, suspend, resume interface{ Do() error }) *Suspension {
	return &Suspension{origin{dev: dev, name: name, info: info, suspend: suspend, resume: resume}}
}

// Dev is the device's number.
func (s *Suspension) Dev() dm.Dev { return s.dev }

// Watch gives the record that the guard shares; nil ends that.
func (s *Suspension) Watch(h Hold) { s.hold = h }

// Held reports whether it is suspended, by us.
func (s *Suspension) Held() bool { return s.hold != nil && s.hold.Held() }

// Stop suspends the device. Without a guard it refuses, and one that somebody else has suspended (ErrSuspended).
func (s *Suspension) Stop() error { return s.stop() }

// Start resumes the device if that is ours to do.
func (s *Suspension) Start() error { return s.start() }

// Broken is ErrResumed if Start found it resumed by somebody else.
func (s *Suspension) Broken() error { return s.broken() }
