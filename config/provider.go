package config

import (
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Provider holds the settings of one provider: those of its file in providers.d, or the defaults.
type Provider struct {
	Name    string // one of the kinds below (dm, thick, thin), or a plug-in's own
	Enabled bool   // default true
	Reserve Reserve
	COW     COW     // dm, thick: unless the policy says otherwise; default 10%
	Storage string  // dm: the directory, or the device below /dev, for copy-on-write areas; default "": dm takes nothing
	Chunk   Size    // dm: what is copied at once, 4K to 64K; default 4K
	Plugin  *Plugin // nil: built in
	File    string  // where it was read from; "" for the defaults

	kind string // pluginType, or "" for what is built in
}

// Reserve is what must stay free where snapshots take their space from: a set that would leave less is refused.
type Reserve struct {
	Data     Space // of a thin pool's data, of the storage volume of dm; default 5%
	Metadata Space // of a thin pool's metadata; default 10%
	VG       Space // of a volume group, for thick; default 0
}

// A providerKind is one kind of provider: what holds without a file, and the keys of its file. A
// new kind is a new entry in providerKinds.
type providerKind struct {
	defaults Provider
	schema   reader[Provider]
}

var providerKinds = map[string]providerKind{
	"dm": {
		defaults: Provider{Reserve: Reserve{Data: Space{Percent: 5}}, COW: COW{Percent: 10}, Chunk: 4 << 10},
		schema: providerMapping(
			key("reserve", func(p *Provider) *Reserve { return &p.Reserve }, mapping(
				key("data", func(r *Reserve) *Space { return &r.Data }, space()),
			)),
			key("cow", func(p *Provider) *COW { return &p.COW }, cow()),
			key("storage", func(p *Provider) *string { return &p.Storage }, pathText()),
			key("chunk", func(p *Provider) *Size { return &p.Chunk }, chunk()),
		),
	},
	"thick": {
		defaults: Provider{COW: COW{Percent: 10}},
		schema: providerMapping(
			key("cow", func(p *Provider) *COW { return &p.COW }, cow()),
			key("reserve", func(p *Provider) *Reserve { return &p.Reserve }, mapping(
				key("vg", func(r *Reserve) *Space { return &r.VG }, space()),
			)),
		),
	},
	"thin": {
		defaults: Provider{Reserve: Reserve{Data: Space{Percent: 5}, Metadata: Space{Percent: 10}}},
		schema: providerMapping(
			key("reserve", func(p *Provider) *Reserve { return &p.Reserve }, mapping(
				key("data", func(r *Reserve) *Space { return &r.Data }, space()),
				key("metadata", func(r *Reserve) *Space { return &r.Metadata }, space()),
			)),
		),
	},
}

// chunk reads the size of dm-snapshot's chunks, which are powers of two.
func chunk() reader[Size] {
	sizes := map[string]Size{}
	for s := Size(4 << 10); s <= 64<<10; s *= 2 {
		sizes[s.String()] = s
	}
	return oneOf(sizes)
}

// providerMapping adds the keys that every kind has.
func providerMapping(fields ...field[Provider]) reader[Provider] {
	return mapping(append([]field[Provider]{
		key("name", func(p *Provider) *string { return &p.Name }, nameText()),
		key("enabled", func(p *Provider) *bool { return &p.Enabled }, boolean()),
	}, fields...)...)
}

func providerNames() []string { return slices.Sorted(maps.Keys(providerKinds)) }

func defaultProvider(name string) Provider {
	p := providerKinds[name].defaults
	p.Name, p.Enabled = name, true
	return p
}

// providerSchema reads a provider's file by the schema of its kind, which its type or its name tells.
var providerSchema = reader[Provider]{
	keys: providerKeys(),
	read: func(d *decoder, path string, n *yaml.Node, into *Provider) {
		plugin := false
		for pair := range slices.Chunk(n.Content, 2) {
			switch {
			case pair[1].Kind != yaml.ScalarNode:
			case pair[0].Value == "name":
				into.Name = pair[1].Value
				d.at[join(path, "name")] = positionOf(pair[1])
			case pair[0].Value == "type":
				plugin = true
			}
		}
		kind, ok := providerKinds[into.Name]
		switch {
		case ok && plugin:
			d.errorf("name", "provider %s is built in: give the plug-in another name", quote(into.Name))
			return
		case plugin:
			*into = defaultPlugin(into.Name)
			pluginKind.schema.read(d, path, n, into)
			return
		case !ok:
			names := providerNames()
			d.errorf("name", "provider %s is unknown: it is one of %s, or a plug-in (add type: plugin)%s",
				quote(into.Name), strings.Join(names, ", "), didYouMean(into.Name, names))
			return
		}
		*into = defaultProvider(into.Name)
		kind.schema.read(d, path, n, into)
	},
}

func providerKeys() []string {
	keys := slices.Clone(pluginKind.schema.keys)
	for _, kind := range providerKinds {
		keys = append(keys, kind.schema.keys...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
