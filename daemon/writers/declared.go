package writers

import (
	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/hooks"
)

// Declared makes the writer of a file's declaration, other than of type dbus.
func Declared(c config.Writer) (hooks.Writer, error) { return hooks.New(Spec(c)) }

// Spec is a declaration in the words of package hooks.
func Spec(c config.Writer) hooks.Spec {
	spec := hooks.Spec{
		Name: c.Name, Type: hooks.Type(c.Type), Level: hooks.Level(c.Level), Required: c.Required,
		OnFailure: hooks.OnFailure(c.OnFailure), Session: c.Session, Unit: c.Unit, Directory: c.Directory, User: c.User, Group: c.Group, Env: c.Environment,
		Recover: c.Recover, Verify: c.Verify, Report: c.Report,
	}
	spec.Timeouts.Prepare, spec.Timeouts.Freeze, spec.Timeouts.Thaw = c.Timeouts.Prepare, c.Timeouts.Freeze, c.Timeouts.Thaw
	spec.Timeouts.Abort, spec.Timeouts.Post = c.Timeouts.Abort, c.Timeouts.Post
	spec.Timeouts.Recover, spec.Timeouts.Verify, spec.Timeouts.Report = c.Timeouts.Recover, c.Timeouts.Verify, c.Timeouts.Report
	for phase, argv := range map[hooks.Phase][]string{
		hooks.PhasePrepare: c.Commands.Prepare, hooks.PhaseFreeze: c.Commands.Freeze, hooks.PhaseThaw: c.Commands.Thaw,
		hooks.PhaseAbort: c.Commands.Abort, hooks.PhasePost: c.Commands.Post,
		hooks.PhaseRecover: c.Commands.Recover, hooks.PhaseVerify: c.Commands.Verify, hooks.PhaseReport: c.Commands.Report,
	} {
		if argv != nil {
			if spec.Commands == nil {
				spec.Commands = map[hooks.Phase][]string{}
			}
			spec.Commands[phase] = argv
		}
	}
	for _, x := range c.Components {
		spec.Components = append(spec.Components, hooks.Component{Name: x.Name, Paths: x.Paths, Excludes: x.Excludes, LogFiles: x.LogFiles, RestoreMethod: x.RestoreMethod})
	}
	return spec
}
