package config

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// A reader is the schema of one kind of value: how it is read from a node, and which keys there are
// below it. It leaves *into alone where it reports a problem, so what *into holds before is the
// default. Readers are made of each other: a mapping of keys, a key of a list, a list of scalars.
type reader[T any] struct {
	keys []string
	read func(d *decoder, path string, n *yaml.Node, into *T)
}

// A field is one key of a mapping that fills a T.
type field[T any] struct {
	name     string
	keys     []string // its own name, and those below: "limits", "limits.freeze", "components[].name"
	required bool
	read     func(d *decoder, path string, n *yaml.Node, into *T)
}

// key binds a key to the place in a T that it fills.
func key[T, V any](name string, place func(*T) *V, value reader[V]) field[T] {
	keys := []string{name}
	for _, below := range value.keys {
		if !strings.HasPrefix(below, "[") {
			below = "." + below
		}
		keys = append(keys, name+below)
	}
	return field[T]{name: name, keys: keys, read: func(d *decoder, path string, n *yaml.Node, into *T) {
		value.read(d, path, n, place(into))
	}}
}

// required makes the absence of a key a problem.
func required[T any](f field[T]) field[T] {
	f.required = true
	return f
}

// mapping reads a mapping with the given keys and no others. One without a value is empty, for that
// is what is left when all its keys are commented out.
func mapping[T any](fields ...field[T]) reader[T] {
	byName := map[string]field[T]{}
	var names, keys []string
	for _, f := range fields {
		byName[f.name] = f
		names = append(names, f.name)
		keys = append(keys, f.keys...)
	}
	return reader[T]{keys: keys, read: func(d *decoder, path string, n *yaml.Node, into *T) {
		known := d.eachPair(path, n, func(key *yaml.Node, value *yaml.Node) {
			f, ok := byName[key.Value]
			if !ok {
				d.errorAt(positionOf(key), path, "unknown key %s%s", quote(key.Value), didYouMean(key.Value, names))
				return
			}
			f.read(d, join(path, key.Value), value, into)
		})
		for _, f := range fields {
			if known && f.required && !d.has(join(path, f.name)) {
				d.errorf(path, "required key %q is missing", f.name)
			}
		}
	}}
}

// dictionary reads a mapping whose keys the user chooses; name says what is wrong with one.
func dictionary[T any](name func(string) error, value reader[T], most int) reader[map[string]T] {
	return reader[map[string]T]{read: func(d *decoder, path string, n *yaml.Node, into *map[string]T) {
		entries := map[string]T{}
		d.eachPair(path, n, func(key, node *yaml.Node) {
			if err := name(key.Value); err != nil {
				d.errorAt(positionOf(key), path, "%v", err)
			}
			var v T
			value.read(d, join(path, key.Value), node, &v)
			entries[key.Value] = v
		})
		if len(entries) > most {
			d.errorf(path, "%d keys are too many: at most %d", len(entries), most)
		}
		*into = entries
	}}
}

// eachPair calls visit for each key of a mapping that was not there before, and says whether n is a
// mapping at all.
func (d *decoder) eachPair(path string, n *yaml.Node, visit func(key, value *yaml.Node)) bool {
	if n.Kind != yaml.MappingNode && !isNull(n) {
		d.errorAt(positionOf(n), path, "a mapping (key: value) is expected, not %s", describe(n))
		return false
	}
	lines := map[string]int{}
	for pair := range slices.Chunk(n.Content, 2) {
		key, value := pair[0], pair[1]
		if d.full() {
			return false
		}
		if key.Kind != yaml.ScalarNode {
			d.errorAt(positionOf(key), path, "a key must be a text, not %s", describe(key))
			continue
		}
		if line, twice := lines[key.Value]; twice {
			d.errorAt(positionOf(key), path, "duplicate key %s: it is also in line %d", quote(key.Value), line)
			continue
		}
		lines[key.Value] = positionOf(key).line
		d.at[join(path, key.Value)] = positionOf(value)
		visit(key, value)
	}
	return true
}

// list reads least to most items.
func list[T any](item reader[T], least, most int) reader[[]T] {
	return listOf(item, item, least, most)
}

// listOf is list with a reader of its own for the first item.
func listOf[T any](first, item reader[T], least, most int) reader[[]T] {
	keys := make([]string, len(item.keys))
	for i, below := range item.keys {
		keys[i] = "[]." + below
	}
	return reader[[]T]{keys: keys, read: func(d *decoder, path string, n *yaml.Node, into *[]T) {
		switch {
		case n.Kind == yaml.ScalarNode && !isNull(n):
			d.errorAt(positionOf(n), path, "a list is expected, not %[1]s: write [%[1]s]", describe(n))
			return
		case n.Kind != yaml.SequenceNode:
			d.errorAt(positionOf(n), path, "a list is expected, not %s", describe(n))
			return
		case len(n.Content) < least:
			d.errorAt(positionOf(n), path, "the list is empty: at least %d is needed", least)
			return
		case len(n.Content) > most:
			d.errorAt(positionOf(n), path, "%d items are too many: at most %d", len(n.Content), most)
			return
		}
		items := make([]T, len(n.Content))
		for i, child := range n.Content {
			d.at[index(path, i)] = positionOf(child)
			r := item
			if i == 0 {
				r = first
			}
			r.read(d, index(path, i), child, &items[i])
		}
		*into = items
	}}
}

// distinct refuses items that are in a list twice.
func distinct(items reader[[]string]) reader[[]string] {
	return reader[[]string]{keys: items.keys, read: func(d *decoder, path string, n *yaml.Node, into *[]string) {
		items.read(d, path, n, into)
		for i, item := range *into {
			if first := slices.Index(*into, item); item != "" && first < i {
				d.errorf(index(path, i), "duplicate of %s: %s", index(path, first), quote(item))
			}
		}
	}}
}

// scalar reads a single value from its text as written: 5432 is as good a text as "5432".
func scalar[T any](kind string, parse func(string) (T, error)) reader[T] {
	return reader[T]{read: func(d *decoder, path string, n *yaml.Node, into *T) {
		if n.Kind != yaml.ScalarNode || isNull(n) {
			d.errorAt(positionOf(n), path, "%s is expected, not %s", kind, describe(n))
			return
		}
		v, err := parse(n.Value)
		if err != nil {
			d.errorAt(positionOf(n), path, "%v", err)
			return
		}
		*into = v
	}}
}
