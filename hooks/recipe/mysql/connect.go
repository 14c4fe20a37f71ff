package mysql

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"syscall"

	"github.com/go-sql-driver/mysql"

	"github.com/fermata-project/fermata/hooks/recipe"
)

// configure turns options into a connection's configuration. The server has to be
// on this host, for its files are.
func configure(o Options) (*mysql.Config, error) {
	from := login{}
	if o.DefaultsFile != "" {
		var err error
		if from, err = readLogin(o.DefaultsFile); err != nil {
			return nil, err
		}
	}
	c := mysql.NewConfig()
	c.User, c.Passwd = from.user, from.password
	if c.User == "" {
		u, err := user.Current()
		if err != nil {
			return nil, fmt.Errorf("cannot tell who connects: %w; name a user in --defaults-file", err)
		}
		c.User = u.Username
	}
	switch local := from.host == "" || from.host == "localhost"; {
	case o.Socket != "":
		c.Net, c.Addr = "unix", o.Socket
	case local && from.socket != "":
		c.Net, c.Addr = "unix", from.socket
	case local:
		c.Net, c.Addr = "unix", defaultSocket()
	case recipe.Local(from.host):
		c.Net, c.Addr = "tcp", net.JoinHostPort(from.host, from.port)
	default:
		return nil, fmt.Errorf("the server at %s is not on this host, so its files are not in the set: "+
			"run the writer where the server runs", from.host)
	}
	c.Timeout = connectTimeout
	c.Logger = &mysql.NopLogger{} // nothing is written in a hold
	return c, nil
}

func defaultSocket() string {
	for _, path := range Sockets {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return Sockets[0]
}

// connect opens both sessions. A server that provably does not run is
// recipe.Inactive.
func (w *writer) connect(ctx context.Context) error {
	config, err := configure(w.options)
	if err != nil {
		return err
	}
	if w.hold, err = open(ctx, config); err == nil {
		w.watch, err = open(ctx, config)
	}
	switch {
	case err == nil:
		return nil
	case hasNumber(err, errDBAccess, errAccess, errAccessNoPasswd):
		return fmt.Errorf("cannot connect as %s to %s: %w; name user and password in --defaults-file, "+
			"or run the writer as a user whom the server knows by its socket", config.User, config.Addr, err)
	case !refused(err):
		return fmt.Errorf("cannot connect as %s to %s: %w", config.User, config.Addr, err)
	}
	if doubt := provenDown(w.options.DataDirectory, recipe.ProcFS); doubt != nil {
		return fmt.Errorf("no server answers at %s, but %w", config.Addr, doubt)
	}
	return recipe.Inactive(fmt.Errorf("no server runs at %s", config.Addr))
}

// refused says whether nobody listens there.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}
