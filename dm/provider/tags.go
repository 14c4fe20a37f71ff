package provider

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// LVM tags are the durable truth of a set: they are written by the very command that makes the volume, and survive the
// loss of the state directory. Characters that a tag may not hold (lvm(8): A-Z a-z 0-9 _ + . - / = ! : & #) are written
// as # and two hexadecimal digits.
const (
	tagPrefix  = "fermata."
	tagArmed   = "fermata.armed"
	tagScratch = "fermata.scratch"
	// maxTag is less than what a tag can hold, 1024 characters. A longer value goes into several: mount, mount.1, mount.2.
	maxTag = 1000
)

func tag(key, value string) string {
	var b strings.Builder
	b.WriteString(tagPrefix + key + "=")
	for i := range len(value) {
		c := value[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("_+.-/=!:&", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "#%02x", c)
		}
	}
	return b.String()
}

// longTag is tag for a value of any length.
func longTag(key, value string) (tags []string) {
	for n := 0; n == 0 || value != ""; n++ {
		name := key
		if n > 0 {
			name += "." + strconv.Itoa(n)
		}
		size := min(len(value), (maxTag-len(tagPrefix+name+"="))/len("#00"))
		tags = append(tags, tag(name, value[:size]))
		value = value[size:]
	}
	return tags
}

func untag(value string) string {
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] == '#' && i+2 < len(value) {
			if c, err := strconv.ParseUint(value[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(value[i])
	}
	return b.String()
}

// tagsOf are the tags of a snapshot from its first moment: it is armed, and part of a set that a host takes.
func tagsOf(host Host, set Set, v Volume) []string {
	tags := []string{tagArmed, tag("set", set.ID), tag("members", strconv.Itoa(set.Members)), tag("origin", v.Name)}
	for _, t := range [][2]string{{"machine", host.Machine}, {"host", host.Name}, {"policy", set.Policy}, {"mount", v.MountPoint}, {"fstype", v.FSType}, {"options", v.Options}} {
		if t[1] != "" {
			tags = append(tags, longTag(t[0], t[1])...)
		}
	}
	return tags
}

// finalTags are what finishing a set adds.
func finalTags(f Final) []string {
	return []string{tag("consistency", f.Consistency), tag("created", strconv.FormatInt(f.Created, 10))}
}

// markTags are what makes finished snapshots half-made: armed, and this host's to remove, whoever has taken them.
func markTags(host Host, snaps []Snapshot) (add, remove []string) {
	add = []string{tagArmed}
	for _, s := range snaps {
		if t := tag("machine", s.Machine); s.Machine != "" && s.Machine != host.Machine && !slices.Contains(remove, t) {
			remove = append(remove, t)
		}
	}
	if len(remove) > 0 && host.Machine != "" {
		add = append(add, tag("machine", host.Machine))
	}
	return add, remove
}

// parseTags reads a snapshot's tags; ok is false if it is none of ours.
func parseTags(tags []string) (s Snapshot, ok bool) {
	values := map[string]string{}
	for _, t := range tags {
		switch t {
		case tagArmed:
			s.Armed = true
			continue
		case tagScratch:
			s.Scratch = true
			continue
		}
		rest, found := strings.CutPrefix(t, tagPrefix)
		if !found {
			continue
		}
		key, value, _ := strings.Cut(rest, "=")
		values[key] = untag(value)
	}
	for key, value := range values {
		value += continued(values, key)
		switch key {
		case "set":
			s.Set.ID, ok = value, value != ""
		case "policy":
			s.Set.Policy = value
		case "members":
			s.Set.Members, _ = strconv.Atoi(value) // garbage: 0, and the set counts as damaged
		case "machine":
			s.Machine = value
		case "host":
			s.Host = value
		case "origin":
			s.Origin = value
		case "mount":
			s.MountPoint = value
		case "fstype":
			s.FSType = value
		case "options":
			s.Options = value
		case "consistency":
			s.Consistency = value
		case "created":
			s.Created, _ = strconv.ParseInt(value, 10, 64) // garbage: the id tells the time too
		}
	}
	return s, ok
}

// Mark is what decides how a snapshot of LVM's is listed, as LVM's own metadata tell it.
type Mark struct {
	Set            string
	Armed, Scratch bool
}

// Marks reports whether a tag is part of a mark.
func Marks(t string) bool {
	return t == tagArmed || t == tagScratch || strings.HasPrefix(t, tagPrefix+"set=")
}

// MarkOf is the mark that tags make; ok is false if they are none of ours.
func MarkOf(tags []string) (m Mark, ok bool) {
	s, ok := parseTags(tags)
	return s.Mark(), ok
}

// Mark is that of a listed snapshot.
func (s Snapshot) Mark() Mark { return Mark{s.Set.ID, s.Armed, s.Scratch} }

// continued is what a value's further tags hold: see longTag. A disk from elsewhere may have very many.
func continued(values map[string]string, key string) string {
	var b strings.Builder
	for n := 1; ; n++ {
		more, found := values[key+"."+strconv.Itoa(n)]
		if !found {
			return b.String()
		}
		b.WriteString(more)
	}
}
