package bus

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

// Limits of what a request may hold.
const (
	maxVolumes     = 256
	maxWriters     = 256
	maxLabels      = 64
	maxPathLength  = 4096 // bytes, as PATH_MAX
	maxNameLength  = 255
	maxIDLength    = 255
	maxLabelLength = 1024
	maxRetry       = 10
	maxRetryWait   = time.Hour
)

// options is an a{sv}: a dictionary from the JSON names of a request's fields to values.
type options map[string]dbus.Variant

// field decodes one option into its place.
type field func(dbus.Variant) error

// decode gives every option to its field. A key without a field, and a value that does not fit, are errors of class
// Invalid that name the key.
func (o options) decode(fields map[string]field) error {
	for _, key := range slices.Sorted(maps.Keys(o)) {
		f, ok := fields[key]
		if !ok {
			return api.Errorf(api.Invalid, "there is no option %q; there are %s", shorten(key), strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
		if err := f(o[key]); err != nil {
			return api.Errorf(api.Invalid, "option %s: %w", key, err)
		}
	}
	return nil
}

// decodeRequest makes a request of the options of CreateSet; detach lets the job outlive its requester's connection.
func decodeRequest(o options) (r api.Request, detach bool, err error) {
	var retry uint32
	var wait uint64
	var consistency string
	err = o.decode(map[string]field{
		"policy":        text(&r.Policy, maxNameLength),
		"volumes":       list(&r.Volumes, maxVolumes, absolute),
		"writers":       list(&r.Writers, maxWriters, name),
		"provider":      text(&r.Provider, maxNameLength),
		"providers":     dictionary(&r.Providers, maxVolumes, absolute, name),
		"consistency":   text(&consistency, maxNameLength),
		"fail_if_busy":  value(&r.FailIfBusy),
		"dry_run":       value(&r.DryRun),
		"retry":         value(&retry),
		"retry_wait_ns": value(&wait),
		"labels":        dictionary(&r.Labels, maxLabels, name, label),
		"method":        text(&r.Method, maxNameLength),
		"clone_directory": func(v dbus.Variant) error {
			if err := text(&r.Clone.Directory, maxPathLength)(v); err != nil || r.Clone.Directory == "" {
				return err
			}
			return absolute(r.Clone.Directory)
		},
		"clone_rate_bytes": value(&r.Clone.Rate),
		"clone_keep":       value(&r.Clone.Keep),
		"clone_no_wait":    value(&r.Clone.NoWait),
		"detach":           value(&detach),
	})
	if err != nil {
		return r, detach, err
	}
	r.Consistency = api.Consistency(consistency)
	r.Retry = int(min(retry, math.MaxInt32))
	r.RetryWait = time.Duration(min(wait, uint64(math.MaxInt64)))
	return r, detach, check(r)
}

// decodeQuiesce makes a request of the options of Quiesce.
func decodeQuiesce(o options) (r api.QuiesceRequest, detach bool, err error) {
	var limit uint64
	var consistency string
	err = o.decode(map[string]field{
		"policy":       text(&r.Policy, maxNameLength),
		"volumes":      list(&r.Volumes, maxVolumes, absolute),
		"writers":      list(&r.Writers, maxWriters, name),
		"writers_only": value(&r.WritersOnly),
		"for_ns":       value(&limit),
		"consistency":  text(&consistency, maxNameLength),
		"fail_if_busy": value(&r.FailIfBusy),
		"detach":       value(&detach),
	})
	if err != nil {
		return r, detach, err
	}
	r.Consistency = api.Consistency(consistency)
	r.For = time.Duration(min(limit, uint64(math.MaxInt64)))
	switch {
	case r.For <= 0 || r.For > api.MaxHold:
		return r, detach, api.Errorf(api.Invalid, "option for_ns: %s is not between 0 and %s", r.For, api.MaxHold)
	case r.WritersOnly && r.Policy == "" && len(r.Writers) > 0:
		return r, detach, nil // of no volumes
	}
	return r, detach, check(api.Request{Policy: r.Policy, Volumes: r.Volumes, Consistency: r.Consistency})
}

// check what concerns several options, or a word's meaning.
func check(r api.Request) error {
	switch {
	case r.Policy == "" && len(r.Volumes) == 0:
		return api.Errorf(api.Invalid, "a request names a policy or volumes")
	case r.Policy != "" && len(r.Volumes) > 0:
		return api.Errorf(api.Invalid, "a request names a policy or volumes, not both")
	case r.Consistency != "" && r.Consistency.Rank() == 0:
		return api.Errorf(api.Invalid, "option consistency: %q is none of crash, filesystem, application", shorten(string(r.Consistency)))
	case r.Method != "" && r.Method != api.CopyOnWrite && r.Method != api.Clone:
		return api.Errorf(api.Invalid, "option method: %q is neither copy-on-write nor clone", shorten(r.Method))
	case r.Retry > maxRetry:
		return api.Errorf(api.Invalid, "option retry: %d is more than %d", r.Retry, maxRetry)
	case r.RetryWait > maxRetryWait:
		return api.Errorf(api.Invalid, "option retry_wait_ns: %s is more than %s", r.RetryWait, maxRetryWait)
	}
	return nil
}

// decodeMountOptions makes mount options of the options of MountSet.
func decodeMountOptions(o options) (m api.MountOptions, err error) {
	err = o.decode(map[string]field{
		"writable": value(&m.Writable),
		"target": func(v dbus.Variant) error {
			if err := text(&m.Target, maxPathLength)(v); err != nil || m.Target == "" {
				return err
			}
			return absolute(m.Target)
		},
	})
	return m, err
}

// decodeResizeOptions makes resize options of the options of ResizeSet.
func decodeResizeOptions(o options) (r api.ResizeOptions, err error) {
	err = o.decode(map[string]field{
		"volume":     text(&r.Volume, maxPathLength),
		"size_bytes": value(&r.Size),
		"grow":       value(&r.Grow),
	})
	if err == nil && r.Size == 0 {
		err = api.Errorf(api.Invalid, "option size_bytes is missing, or 0")
	}
	return r, err
}

// decodeReportOptions makes a report of the options of ReportSet.
func decodeReportOptions(o options) (r api.ReportOptions, err error) {
	err = o.decode(map[string]field{"outcome": text(&r.Outcome, maxNameLength), "force": value(&r.Force)})
	if err == nil && r.Outcome != api.BackupOK && r.Outcome != api.BackupFailed {
		err = api.Errorf(api.Invalid, "option outcome: %q is neither %s nor %s", shorten(r.Outcome), api.BackupOK, api.BackupFailed)
	}
	return r, err
}

// value stores a value of exactly the type of its place.
func value[T any](to *T) field {
	return func(v dbus.Variant) error {
		x, ok := v.Value().(T)
		if !ok {
			var zero T
			return fmt.Errorf("has D-Bus type %s, not %s", shorten(v.Signature().String()), dbus.SignatureOf(zero))
		}
		*to = x
		return nil
	}
}

// text stores a string of at most limit bytes.
func text(to *string, limit int) field {
	return func(v dbus.Variant) error {
		if err := value(to)(v); err != nil {
			return err
		}
		return bounded(*to, limit)
	}
}

// list stores an array of at most limit strings, each of which passes each.
func list(to *[]string, limit int, each func(string) error) field {
	return func(v dbus.Variant) error {
		if err := value(to)(v); err != nil {
			return err
		}
		if len(*to) > limit {
			return fmt.Errorf("has %d entries, at most %d are allowed", len(*to), limit)
		}
		for i, s := range *to {
			if err := each(s); err != nil {
				return fmt.Errorf("entry %d: %w", i, err)
			}
		}
		return nil
	}
}

// dictionary stores a mapping of at most limit entries, whose keys and values pass key and val.
func dictionary(to *map[string]string, limit int, key, val func(string) error) field {
	return func(v dbus.Variant) error {
		if err := value(to)(v); err != nil {
			return err
		}
		if len(*to) > limit {
			return fmt.Errorf("has %d entries, at most %d are allowed", len(*to), limit)
		}
		for k, x := range *to {
			if err := key(k); err != nil {
				return err
			}
			if err := val(x); err != nil {
				return fmt.Errorf("%s: %w", shorten(k), err)
			}
		}
		return nil
	}
}

// absolute accepts the clean absolute path of a mount point or device.
func absolute(s string) error {
	if err := bounded(s, maxPathLength); err != nil {
		return err
	}
	if !filepath.IsAbs(s) {
		return fmt.Errorf("%q is not an absolute path", shorten(s))
	}
	return nil
}

func name(s string) error {
	if s == "" {
		return fmt.Errorf("is empty")
	}
	return bounded(s, maxNameLength)
}

func label(s string) error { return bounded(s, maxLabelLength) }

func bounded(s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("has %d bytes, at most %d are allowed", len(s), limit)
	}
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return fmt.Errorf("is not text")
	}
	return nil
}

// shorten bounds what is quoted from a client.
func shorten(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
