package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/hooks/recipe"
	"github.com/fermata-project/fermata/hooks/recipe/libvirt"
	"github.com/fermata-project/fermata/hooks/recipe/qemuhooks"
)

func libvirtCommand(served *bool) *cobra.Command {
	var o libvirt.Options
	c := &cobra.Command{
		Use:   "libvirt DOMAIN",
		Short: "Hold a virtual machine of libvirt, by the guest agent in it",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.Domain = args[0]
			r, err := libvirt.New(o)
			if err != nil {
				return err
			}
			*served = true
			return recipe.Serve(c.Context(), os.Stdin, os.Stdout, r)
		},
	}
	f := c.Flags()
	f.StringVar(&o.URI, "connect", libvirt.DefaultURI, "URI of the connection")
	f.StringVar(&o.Virsh, "virsh", "virsh", "the program, an absolute path or a name to be found in PATH")
	return c
}

func qemuHookDirCommand(served *bool) *cobra.Command {
	return &cobra.Command{
		Use:   "qemu-hook-dir [DIRECTORY]",
		Short: "Run scripts for the QEMU guest agent (default " + qemuhooks.DefaultDirectory + ")",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			directory := ""
			if len(args) > 0 {
				directory = args[0]
			}
			r, err := qemuhooks.New(directory)
			if err != nil {
				return err
			}
			*served = true
			return recipe.Serve(c.Context(), os.Stdin, os.Stdout, r)
		},
	}
}
