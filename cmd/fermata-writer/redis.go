package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/hooks/recipe"
	"github.com/fermata-project/fermata/hooks/recipe/redis"
)

func redisCommand(served *bool) *cobra.Command {
	var o redis.Options
	c := &cobra.Command{
		Use:     "redis",
		Aliases: []string{"valkey"},
		Short:   "Hold a Redis server, 6.2 or newer, or a Valkey server",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := redis.New(o)
			if err != nil {
				return err
			}
			*served = true
			return recipe.Serve(c.Context(), os.Stdin, os.Stdout, r)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Address, "address", redis.DefaultAddress, "path of the server's socket, or host:port")
	f.StringVar(&o.User, "user", "", "name to log in with (default the server's default user)")
	f.StringVar(&o.PasswordFile, "password-file", "", "file that has the password, closed to others")
	f.StringVar(&o.Directory, "directory", "", "the server's directory on this host, where the server calls it otherwise")
	f.StringVar(&o.PIDFile, "pid-file", "", "the server's pid file, to tell whether it runs when it does not answer")
	f.BoolVar(&o.SaveInHold, "save-in-hold", false, "without an append-only file: pause writes, and save under the pause")
	f.StringVar(&o.BinDirectory, "bin-directory", "", "folder of the server's checkers, for verify (default where packages put them)")
	return c
}
