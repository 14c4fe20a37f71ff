// Package pools watches what snapshots fill: thin pools (data and metadata) and copy-on-write areas. It learns of them from
// device-mapper alone: by its events, and by looking again when a threshold could have been reached. No LVM command is
// run, so that a lock of LVM's that somebody holds delays nothing; and whoever reads the state takes what was seen last, and waits for
// nobody.
package pools
