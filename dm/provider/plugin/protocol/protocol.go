// Package protocol is what Fermata and a plug-in say to each other: one JSON object a line, on the plug-in's standard
// input and output. docs/providers.md describes it, with a schema and an example session.
//
// Fermata asks, the plug-in answers: one request at a time, each with an id that never comes twice in the life of a
// process. Both sides ignore keys that they do not know.
package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Version of the protocol; it is the value of "fermata" in every line.
const Version = 1

const (
	// MaxLine is the longest line, its newline included, in bytes.
	MaxLine = 4 << 20
	// MaxWindowLine is the longest answer to PreCommit, Commit and PostCommit.
	MaxWindowLine = 64 << 10
	// maxMessage is how much of an error's message is kept.
	maxMessage = 2000
)

// Method is what is asked.
type Method string

const (
	Hello      Method = "hello"
	Claim      Method = "claim"
	Admit      Method = "admit"
	Prepare    Method = "prepare"
	Lock       Method = "lock"
	PreCommit  Method = "precommit"
	Commit     Method = "commit"
	PostCommit Method = "postcommit"
	Unlock     Method = "unlock"
	Verify     Method = "verify"
	Finalize   Method = "finalize"
	Abort      Method = "abort"
	Snapshots  Method = "snapshots"
	Mark       Method = "mark"
	Delete     Method = "delete"
	Expose     Method = "expose"
	Hide       Method = "hide"
	Copy       Method = "copy"   // capability copy
	Usage      Method = "usage"  // capability usage
	Resize     Method = "resize" // capability resize
	Pools      Method = "pools"  // capability pools
)

// Methods are all of them, in the order in which a set meets them.
var Methods = []Method{
	Hello, Claim, Admit, Prepare, Lock, PreCommit, Commit, PostCommit, Unlock, Verify, Finalize, Abort,
	Snapshots, Mark, Delete, Expose, Hide, Copy, Usage, Resize, Pools,
}

// Capability is what a plug-in can do beyond what every plug-in must.
type Capability string

const (
	CanCopy   Capability = "copy"   // writable throw-away copies of snapshots
	CanUsage  Capability = "usage"  // tells how full a snapshot's copy-on-write area is
	CanResize Capability = "resize" // grows that area
	CanPools  Capability = "pools"  // tells of pools

	NeedsSuspend Capability = "suspend"  // may want device-mapper volumes suspended by Fermata
	MayUnhold    Capability = "unheld"   // may claim a volume as unheld
	IsVolatile   Capability = "volatile" // its snapshots may not survive a reboot
)

// Request is one line to the plug-in.
type Request struct {
	Fermata   int    `json:"fermata"`
	ID        uint64 `json:"id"`
	Method    Method `json:"method"`
	TimeoutMS int64  `json:"timeout_ms"` // how long Fermata waits for the answer
	Params    Params `json:"params"`
}

// Params are a request's parameters; docs/providers.md says which method has which.
type Params struct {
	Versions  []int      `json:"versions,omitempty"` // of the protocol, that Fermata speaks
	Set       *Set       `json:"set,omitempty"`
	Volume    *Volume    `json:"volume,omitempty"`
	Volumes   []Volume   `json:"volumes,omitempty"`
	Snapshot  *Snapshot  `json:"snapshot,omitempty"`
	Snapshots []Snapshot `json:"snapshots,omitempty"`
	Final     *Final     `json:"final,omitempty"`
	Size      uint64     `json:"size,omitempty"` // bytes
}

// Answer is one line from the plug-in: a result or an error.
type Answer struct {
	Fermata int     `json:"fermata"`
	ID      uint64  `json:"id"` // of the request
	Result  *Result `json:"result,omitempty"`
	Error   *Error  `json:"error,omitempty"`
}

// Result is what a method gives; docs/providers.md says which gives what.
type Result struct {
	Hello     *Greeting  `json:"hello,omitempty"`
	Claim     *Claimed   `json:"claim,omitempty"`
	Suspend   []string   `json:"suspend,omitempty"` // device numbers of volumes that Fermata is to suspend
	Snapshots []Snapshot `json:"snapshots,omitempty"`
	Snapshot  *Snapshot  `json:"snapshot,omitempty"`
	Device    string     `json:"device,omitempty"` // path
	Usage     *Used      `json:"usage,omitempty"`
	Pools     []Pool     `json:"pools,omitempty"`
}

// Greeting is the plug-in's half of the handshake.
type Greeting struct {
	Name         string       `json:"name"`
	Kind         string       `json:"kind"`    // hardware or software
	Version      string       `json:"version"` // the plug-in's own
	Capabilities []Capability `json:"capabilities,omitempty"`
}

// Volume is a block device to be captured.
type Volume struct {
	Dev        string `json:"dev"`               // 253:3
	DMName     string `json:"dm_name,omitempty"` // if it is device-mapper's
	DMUUID     string `json:"dm_uuid,omitempty"`
	Name       string `json:"name"`                  // as claimed; before that a name for people
	Size       uint64 `json:"size"`                  // bytes
	MountPoint string `json:"mount_point,omitempty"` // absent: a raw volume
	FSType     string `json:"fstype,omitempty"`
	Used       uint64 `json:"used,omitempty"` // bytes that its filesystem uses
	COW        uint64 `json:"cow,omitempty"`  // bytes that the policy wants for a copy-on-write area
}

// Claimed is the answer for a volume that the plug-in takes.
type Claimed struct {
	Name   string `json:"name"`             // the volume's, in the plug-in's own terms
	Unheld bool   `json:"unheld,omitempty"` // captured while neither frozen nor suspended
	Writes bool   `json:"writes,omitempty"` // commit writes to what lies below the volume
}

// Set is the snapshot set.
type Set struct {
	ID      string `json:"id"`
	Policy  string `json:"policy,omitempty"`
	Members int    `json:"members"` // volumes of the whole set, over all providers
}

// Snapshot is the image of one volume, with everything that makes its set recognisable without Fermata's own records.
type Snapshot struct {
	Name        string `json:"name"`
	Set         Set    `json:"set"`
	Origin      string `json:"origin"` // the volume's name as claimed
	Armed       bool   `json:"armed,omitempty"`
	Scratch     bool   `json:"scratch,omitempty"`
	MountPoint  string `json:"mount_point,omitempty"`
	FSType      string `json:"fstype,omitempty"`
	Consistency string `json:"consistency,omitempty"`
	Created     int64  `json:"created,omitempty"` // Unix microseconds
	Size        uint64 `json:"size"`
	Options     string `json:"options,omitempty"` // for mount(2)
	Volatile    bool   `json:"volatile,omitempty"`
	Invalid     string `json:"invalid,omitempty"` // why its content is lost
	// Omits are parts of what is seen at the mount point that the snapshot does not have: see Omitted.
	Omits []string `json:"omits,omitempty"`
}

// Final is what a finished set's snapshots must remember.
type Final struct {
	Consistency string `json:"consistency"`
	Created     int64  `json:"created"` // Unix microseconds
}

// Used is the state of a copy-on-write area, in bytes.
type Used struct {
	Size     uint64 `json:"size"`
	Used     uint64 `json:"used"`
	Metadata uint64 `json:"metadata,omitempty"`
	Invalid  bool   `json:"invalid,omitempty"`
}

// Pool is where snapshots' space comes from, in bytes.
type Pool struct {
	Name         string `json:"name"`
	Device       string `json:"device,omitempty"`
	Mode         string `json:"mode,omitempty"`
	Size         uint64 `json:"size"`
	Used         uint64 `json:"used"`
	MetadataSize uint64 `json:"metadata_size,omitempty"`
	MetadataUsed uint64 `json:"metadata_used,omitempty"`
	NeedsCheck   bool   `json:"needs_check,omitempty"`
}

// Code tells Fermata what a failure means for the requester.
type Code string

const (
	Failed      Code = "failed"      // anything else
	NoRoom      Code = "no-room"     // less space than the set must find
	Unhealthy   Code = "unhealthy"   // the pool could have lost writes
	Changed     Code = "changed"     // somebody changed something since prepare
	Unsupported Code = "unsupported" // an unknown method, or no common version
)

// Error is a failure as the plug-in tells it.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an error with a code.
func Errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Line is v as a line with its newline.
func Line(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(b) >= MaxLine {
		return nil, fmt.Errorf("%d bytes are more than the %d of a line", len(b), MaxLine-1)
	}
	return append(b, '\n'), nil
}

// ParseRequest reads a line, with or without its newline.
func ParseRequest(line []byte) (Request, error) {
	var r Request
	switch err := parse(line, &r); {
	case err != nil:
		return Request{}, err
	case r.Fermata != Version:
		return Request{}, fmt.Errorf("version %d of the protocol, not %d", r.Fermata, Version)
	case r.ID == 0 || r.Method == "":
		return Request{}, errors.New("no id or no method")
	}
	return r, nil
}

// ParseAnswer reads a line, with or without its newline. An error's message comes out fit to be shown.
func ParseAnswer(line []byte) (Answer, error) {
	var a Answer
	switch err := parse(line, &a); {
	case err != nil:
		return Answer{}, err
	case a.Fermata != Version:
		return Answer{}, fmt.Errorf("version %d of the protocol, not %d", a.Fermata, Version)
	case a.ID == 0:
		return Answer{}, errors.New("no id")
	case (a.Result == nil) == (a.Error == nil):
		return Answer{}, errors.New("neither result nor error, or both")
	}
	if a.Error != nil {
		a.Error.Message = Printable(a.Error.Message, maxMessage)
	}
	return a, nil
}

func parse(line []byte, into any) error {
	if len(line) > MaxLine {
		return fmt.Errorf("a line of more than %d bytes", MaxLine)
	}
	if !utf8.Valid(line) {
		return errors.New("not UTF-8")
	}
	if err := json.Unmarshal(line, into); err != nil {
		return fmt.Errorf("no JSON object of the protocol: %w", err)
	}
	return nil
}

const (
	maxOmits = 100 // of a snapshot
	maxOmit  = 300 // bytes of one
)

// Omitted bounds what a snapshot omits, in number and length: what is too much is counted in the last entry. What is
// bounded stays as it is.
func Omitted(all []string) []string {
	var out []string
	for _, text := range all {
		if len(out) == maxOmits && len(all) > maxOmits+1 {
			return append(out, fmt.Sprintf("and %d more", len(all)-len(out)))
		}
		out = append(out, Printable(text, maxOmit))
	}
	return out
}

// Printable is text as one line for people: at most so many bytes, without control characters.
func Printable(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strings.TrimSpace(text)
}
