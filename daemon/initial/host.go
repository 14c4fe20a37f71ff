// Package initial writes a first configuration for a host: for the databases that run there and the volumes that can be in a set. Look
// sees the host and changes nothing; Files is a pure function of what it saw.
package initial

import (
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/fsfreeze"
)

// Host is what Look saw.
type Host struct {
	Name    string
	Volumes []api.Volume
	Mounts  []fsfreeze.Mount // all, those of no volume too
	Pools   []api.Pool
	Groups  []Group
	Servers []Server
}

// Group is a volume group with its free space in bytes.
type Group struct {
	Name string
	Free uint64
}

// Kind of a server: the name of its recipe (fermata-writer).
type Kind string

const (
	PostgreSQL Kind = "postgresql"
	MariaDB    Kind = "mariadb"
	MySQL      Kind = "mysql"
	Redis      Kind = "redis"
	Valkey     Kind = "valkey"
	MongoDB    Kind = "mongodb"
	SQLite     Kind = "sqlite"
	Libvirt    Kind = "libvirt"
)

// Server is an application that a recipe knows.
type Server struct {
	Kind Kind
	// Name tells it from others of its kind: the port of a database, the name of a machine. Empty: it is the only one.
	Name string
	User string // whom its writer runs as; empty: root
	// Paths are where its files are, links followed: the data first.
	Paths []string
	// Problem says why the paths are not those of the host; empty: they are.
	Problem string
	// Arguments are the recipe's.
	Arguments []string
}

// File is one of a configuration. Its name is relative to the folder of the configuration.
type File struct {
	Name string `json:"name"`
	Text string `json:"text"`
}
