package plugin

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
	"github.com/fermata-project/fermata/hooks/child"
)

// process is a plug-in's process and our ends of its pipes: plain descriptors, so that the freeze window can use them with
// two system calls and nothing else.
type process struct {
	*child.Process
	in, out int // its standard input and output
}

// start runs the program of a spec.
func start(spec Spec) (*process, error) {
	who, err := child.Identify(spec.User, "")
	if err != nil {
		return nil, err
	}
	env := append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "FERMATA_PLUGIN=" + spec.Name}, who.Env()...)
	var in, out [2]int
	if err := unix.Pipe2(in[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		unix.Close(in[0])
		unix.Close(in[1])
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	p := &process{in: in[1], out: out[0]}
	childIn, childOut := os.NewFile(uintptr(in[0]), "stdin"), os.NewFile(uintptr(out[1]), "stdout")
	p.Process, err = child.Start(child.Command{
		Path: spec.Command[0], Args: spec.Command, Env: append(env, spec.env...), Credential: who.Credential,
		Stdin: childIn, Stdout: childOut, Orphaned: syscall.SIGKILL, Whole: true,
	})
	err = errors.Join(err, unix.SetNonblock(p.in, true), unix.SetNonblock(p.out, true))
	childIn.Close()
	childOut.Close()
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// close closes our ends of its pipes: at the end of its input it lets go of whatever it holds.
func (p *process) close() {
	unix.Close(p.in)
	unix.Close(p.out)
}

// bury waits for a process whose input has ended, and kills it if it does not go.
func (p *process) bury() error {
	if !p.Gone(child.Grace) {
		p.Kill()
	}
	return p.Buried(child.ReapGrace)
}

// describe tells how it ended, if it has, and its last word.
func (p *process) describe() string {
	return p.Explain(protocol.Printable(p.Words.Last(), maxSaid))
}

// maxSaid bounds a line of its standard error in a log or an error, in bytes.
const maxSaid = 1000
