package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/hooks/recipe"
	"github.com/fermata-project/fermata/hooks/recipe/mysql"
)

// mysqlCommand is the recipe under the name of either server; what the server is
// it says itself.
func mysqlCommand(served *bool, name, server string) *cobra.Command {
	var o mysql.Options
	c := &cobra.Command{
		Use:   name,
		Short: "Hold a " + server + " server",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := mysql.New(o)
			if err != nil {
				return err
			}
			*served = true
			return recipe.Serve(c.Context(), os.Stdin, os.Stdout, r)
		},
	}
	f := c.Flags()
	f.StringVar(&o.DefaultsFile, "defaults-file", "", "option file with user, password, socket, host, port in [client] or [fermata]")
	f.StringVar(&o.Socket, "socket", "", "the server's socket (default "+strings.Join(mysql.Sockets, " or ")+")")
	f.StringVar(&o.DataDirectory, "data-directory", "", "files of the server, to tell whether it runs when it does not answer")
	f.StringVar(&o.Lock, "lock", "", "what to hold: "+strings.Join(mysql.Locks(), ", ")+" (default what version and tables need)")
	f.StringVar(&o.BinDirectory, "bin-directory", "", "folder of the server's program, for recover and verify (default where packages put it)")
	f.StringVar(&o.ServerDefaultsFile, "server-defaults-file", "", "the server's option file, for recover and verify (default those that it reads by itself)")
	return c
}
