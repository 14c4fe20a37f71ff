package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// signalError is the cause of an end that a signal asked for.
type signalError struct{ signal syscall.Signal }

func (e signalError) Error() string { return "ended by a signal: " + e.signal.String() }

// untilSignal gives a context that ends when the lab is told to end, or when the
// go command that runs it is gone: `go run` and `go test` die of a signal
// without passing it on.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	parents := goParents(os.Getppid(), processStat)
	go func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case s := <-signals:
				cancel(signalError{s.(syscall.Signal)})
			case <-ticker.C:
				if len(goParents(os.Getppid(), processStat)) < len(parents) {
					cancel(signalError{syscall.SIGHUP})
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

// goParents gives the processes that are the go command, from pid upwards. stat
// gives the text of a process's /proc/PID/stat (proc(5)).
func goParents(pid int, stat func(pid int) string) []int {
	var found []int
	for {
		var parent int
		_, rest, ok := strings.Cut(stat(pid), " (go) ")
		if !ok {
			return found
		}
		found = append(found, pid)
		if _, err := fmt.Sscanf(rest, "%1s %d", new(string), &parent); err != nil {
			return found
		}
		pid = parent
	}
}

func processStat(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "" // gone
	}
	return string(text)
}
