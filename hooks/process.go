package hooks

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/fermata-project/fermata/hooks/child"
)

// process is a running program and our ends of its pipes, which can be given deadlines.
type process struct {
	*child.Process
	stdin  *os.File // nil if the program reads /dev/null
	stdout *os.File
}

// start runs a program, on a stage if one is given. With input it gets a pipe as standard input, and all
// that it has started is killed when it exits: then the program is the session.
// Without, it reads /dev/null, and what it leaves running when it ends by itself
// is left alone.
func (p *program) start(env []string, input bool, stage *child.Stage) (*process, error) {
	var c process
	var childIn *os.File
	stdout, childOut, err := os.Pipe()
	if err == nil && input {
		childIn, c.stdin, err = os.Pipe()
	}
	c.stdout = stdout
	if err != nil {
		closeAll(stdout, childOut)
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	c.Process, err = child.Start(child.Command{
		Path: p.path, Args: p.argv, Env: env, Credential: p.credential,
		Stdin: childIn, Stdout: childOut, Orphaned: syscall.SIGTERM, Whole: input, Stage: stage,
	})
	closeAll(childIn, childOut)
	if err != nil {
		closeAll(c.stdin, c.stdout)
		return nil, err
	}
	return &c, nil
}

// end closes the program's input, gives it time to leave, and ends it.
func (c *process) end() error {
	closeAll(c.stdin) // closed before: what was wanted
	if !c.Ending() && !c.Gone(child.Grace) {
		c.Terminate()
	}
	return c.awaitEnd()
}

// awaitEnd waits for a program that is being terminated, and frees its pipe.
func (c *process) awaitEnd() error {
	defer c.stdout.Close()
	return c.Buried(child.Grace + child.ReapGrace)
}

// describe adds to err how the program ended, if it has, and its last words.
func (c *process) describe(err error) error {
	c.Settle()
	if how := c.Explain(c.Words.String()); how != "" {
		return fmt.Errorf("%w%s", err, how)
	}
	return err
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// readHead returns the first limit bytes of r and reads on to the end, so that
// the writing program never blocks.
func readHead(r io.Reader, limit int64) []byte {
	head, _ := io.ReadAll(io.LimitReader(r, limit)) // a deadline ends it, with what there is
	_, _ = io.Copy(io.Discard, r)
	return head
}
