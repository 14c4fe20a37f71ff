package inside

import (
	"path"
	"slices"
	"strings"
)

// moduleFiles gives the files to load for a module, in the order to load them,
// from the text of modules.dep (depmod(8)): a line has a module's file, a colon,
// and the files that it needs, the nearest first. A module that is not listed
// is built into the kernel and needs none.
func moduleFiles(dep, name string) []string {
	for line := range strings.Lines(dep) {
		file, needs, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || path.Base(file) != name+".ko" {
			continue
		}
		files := append([]string{file}, strings.Fields(needs)...)
		slices.Reverse(files)
		return files
	}
	return nil
}
