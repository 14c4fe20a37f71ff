// Command fermata-provider-array is a plug-in that stands for a storage array: it shows how a plug-in is written, and can
// be told to misbehave, so that one can see what Fermata does then.
//
// Its array is a directory: volumes/NAME is a volume, used through a loop device or a device-mapper device over one, and a
// snapshot of it is a copy of that file, by reflink where the filesystem can.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/fermata-project/fermata/dm/provider/plugin/pluginmain"
)

func main() {
	store := flag.String("store", "/var/lib/fermata-array", "`DIR` of the array")
	kind := flag.String("kind", "hardware", "what it says it is: hardware or software")
	f := faults{}
	f.flags(flag.CommandLine)
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: fermata-provider-array [OPTION]...: it speaks on standard input and output, see docs/providers.md")
		os.Exit(2)
	}
	os.Exit(pluginmain.Main(newArray(*store, *kind), f.around))
}
