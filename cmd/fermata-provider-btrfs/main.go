// Command fermata-provider-btrfs is a plug-in that takes read-only subvolume snapshots of mounted btrfs filesystems.
//
// A snapshot of a subvolume cannot be made while its filesystem is frozen: so the volume is captured unheld, at the instant
// of btrfs's own transaction. It holds the subvolume that is mounted, and none of the subvolumes nested in it, which it lists.
//
// Everything of a set lies in the directory .fermata at the top of that subvolume: the snapshot, named by the set's id, and
// a record beside it. Snapshots are listed while their subvolume is mounted somewhere.
package main

import (
	"os"

	"github.com/fermata-project/fermata/dm/provider/plugin/pluginmain"
)

func main() { os.Exit(pluginmain.Main(&subvolumes{}, nil)) }
