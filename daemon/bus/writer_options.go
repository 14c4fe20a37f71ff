package bus

import (
	"fmt"
	"strconv"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
)

// Limits of what a registration may hold.
const (
	maxComponents = 64
	maxPaths      = 256
	maxTextLength = 1024
	maxTimeoutMS  = 60 * 60 * 1000
)

// decodeWriter makes a declaration of the options of RegisterWriter.
func decodeWriter(writer string, o options) (config.Writer, error) {
	w := config.Writer{Name: writer, Type: config.WriterDBus, Level: config.LevelBackEnd, Required: true, OnFailure: config.OnFailureAbort}
	if len(writer) > maxNameLength {
		return w, api.Errorf(api.Invalid, "the name of a writer has at most 64 bytes")
	}
	var level string
	limits := map[string]uint64{}
	var components []map[string]dbus.Variant
	err := o.decode(map[string]field{
		"level": text(&level, maxNameLength), "report": value(&w.Report), "timeouts_ms": value(&limits), "components": value(&components),
	})
	if err != nil {
		return w, err
	}
	if level != "" {
		w.Level = config.Level(level)
	}
	if err := decodeTimeouts(limits, &w.Timeouts); err != nil {
		return w, api.Errorf(api.Invalid, "option timeouts_ms: %w", err)
	}
	if len(components) > maxComponents {
		return w, api.Errorf(api.Invalid, "option components: has %d entries, at most %d are allowed", len(components), maxComponents)
	}
	for i, c := range components {
		component, err := decodeComponent(c)
		if err != nil {
			return w, api.Errorf(api.Invalid, "option components: entry %d: %w", i, err)
		}
		w.Components = append(w.Components, component)
	}
	return w, nil
}

func decodeComponent(o options) (c config.Component, err error) {
	err = o.decode(map[string]field{
		"name":           text(&c.Name, maxNameLength),
		"paths":          list(&c.Paths, maxPaths, absolute),
		"excludes":       list(&c.Excludes, maxPaths, label),
		"log_files":      list(&c.LogFiles, maxPaths, absolute),
		"restore_method": text(&c.RestoreMethod, maxTextLength),
	})
	if err == nil && (c.Name == "" || len(c.Paths) == 0) {
		err = fmt.Errorf("a component needs a name and paths")
	}
	return c, err
}

// decodeTimeouts reads milliseconds by phase; the range is checked where writers are made.
func decodeTimeouts(limits map[string]uint64, t *config.Timeouts) error {
	for phase, ms := range limits {
		into := map[string]*time.Duration{"prepare": &t.Prepare, "freeze": &t.Freeze, "thaw": &t.Thaw, "abort": &t.Abort, "post": &t.Post, "report": &t.Report}[phase]
		if into == nil {
			return fmt.Errorf("%s is no phase", strconv.Quote(shorten(phase)))
		}
		if ms == 0 || ms > maxTimeoutMS {
			return fmt.Errorf("%s is %d: it must be between 1 and %d", phase, ms, maxTimeoutMS)
		}
		*into = time.Duration(ms) * time.Millisecond
	}
	return nil
}
