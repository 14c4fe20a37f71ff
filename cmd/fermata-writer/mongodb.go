package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/hooks/recipe"
	"github.com/fermata-project/fermata/hooks/recipe/mongodb"
)

func mongodbCommand(served *bool) *cobra.Command {
	var o mongodb.Options
	c := &cobra.Command{
		Use:   "mongodb",
		Short: "Hold a MongoDB server, 4.4 or newer",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := mongodb.New(o)
			if err != nil {
				return err
			}
			*served = true
			return recipe.Serve(c.Context(), os.Stdin, os.Stdout, r)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Address, "address", mongodb.DefaultAddress, "path of the server's socket, or host:port")
	f.StringVar(&o.User, "user", "", "name to log in with, on database admin (default no login)")
	f.StringVar(&o.PasswordFile, "password-file", "", "file that has the password, closed to others")
	f.StringVar(&o.Directory, "directory", "", "the data directory on this host, where the server calls it otherwise")
	f.StringVar(&o.PIDFile, "pid-file", "", "mongod.lock of the data directory, to tell whether the server runs when it does not answer")
	f.BoolVar(&o.Lock, "lock", false, "block writes by fsync with lock, for storage engines without a journal")
	return c
}
