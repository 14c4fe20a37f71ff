// Command example is a service that is a writer: it adds a line to a file ten times a second, and stands still when
// Fermata asks it to.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/hooks/dbuswriter"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: example NAME FILE")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	a := &application{path: os.Args[2]}
	go a.work()
	if err := a.serve(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "example:", err)
		os.Exit(1)
	}
}

// application writes, unless it stands still.
type application struct {
	path  string
	mu    sync.Mutex // held while it writes
	still bool
}

// serve makes it a writer, until ctx ends.
func (a *application) serve(ctx context.Context, name string) error {
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return err
	}
	defer conn.Close()
	w := &dbuswriter.Writer{
		Name:   name,
		Freeze: func(context.Context, dbuswriter.Event) (map[string]any, error) { return a.stand(true) },
		Thaw:   func(context.Context, dbuswriter.Event) (map[string]any, error) { return a.stand(false) },
	}
	return w.Serve(ctx, conn)
}

func (a *application) stand(still bool) (map[string]any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.still = still
	return nil, nil
}

// work is what the application is there for.
func (a *application) work() {
	for n := 0; ; n++ {
		a.mu.Lock()
		if !a.still {
			a.write(n)
		}
		a.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
	}
}

func (a *application) write(n int) {
	f, err := os.OpenFile(a.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, "example:", err)
		return
	}
	defer f.Close()
	fmt.Fprintln(f, n)
}
