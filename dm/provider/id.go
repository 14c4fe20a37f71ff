package provider

import "regexp"

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}$`)

// ValidID reports whether id can be that of a set. Ids become file names: nothing in them may lead out of a directory.
func ValidID(id string) bool { return idPattern.MatchString(id) }
