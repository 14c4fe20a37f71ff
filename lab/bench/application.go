package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// application is a fio that writes 4 KiB and waits until they are on the disk (O_DSYNC), again and again, with a millisecond
// between. It overwrites a file of 4 MiB in turn, so that the first write to each piece after a snapshot pays for the copy.
// Its longest stall is the longest write of its latency log.
type application struct {
	fio       *exec.Cmd
	said      bytes.Buffer
	file, dir string
}

func startApplication(point string) (*application, error) {
	dir, err := os.MkdirTemp("", "bench-application-")
	if err != nil {
		return nil, err
	}
	a := &application{file: filepath.Join(point, "application"), dir: dir}
	a.fio = exec.Command("fio", "--name=application", "--filename="+a.file, "--rw=write", "--bs=4k", "--size=4m",
		"--ioengine=psync", "--sync=dsync", "--thinktime=1ms", "--thinktime_blocks=1", "--overwrite=1",
		"--time_based", "--runtime=600", "--thread", "--write_lat_log="+filepath.Join(dir, "log"))
	a.fio.Stdout, a.fio.Stderr = &a.said, &a.said
	if err := a.fio.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start fio (Debian package fio): %w", err), os.RemoveAll(dir))
	}
	return a, nil
}

// stop ends the application and returns how many writes it made and how long the longest took.
func (a *application) stop() (writes int, longest time.Duration, err error) {
	err = a.fio.Process.Signal(os.Interrupt) // fio then writes its log
	if e := a.fio.Wait(); a.fio.ProcessState == nil {
		err = errors.Join(err, e)
	}
	log, e := os.Open(filepath.Join(a.dir, "log_lat.1.log"))
	if e == nil {
		writes, longest, e = latencies(log)
		e = errors.Join(e, log.Close())
	}
	if err = errors.Join(err, e); err != nil {
		err = fmt.Errorf("the application has failed: %w\n%s", err, a.said.Bytes())
	}
	return writes, longest, errors.Join(err, os.Remove(a.file), os.RemoveAll(a.dir))
}

// latencies reads a latency log of fio: a line for each write, "time in ms, latency in ns, direction, …" (fio(1), LOG FILE FORMATS).
func latencies(log io.Reader) (writes int, longest time.Duration, err error) {
	lines := bufio.NewScanner(log)
	for ; lines.Scan(); writes++ {
		field := strings.Split(lines.Text(), ",")
		if len(field) < 3 {
			return 0, 0, fmt.Errorf("line %d of fio's latency log: %q", writes+1, lines.Text())
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(field[1]), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("line %d of fio's latency log: %w", writes+1, err)
		}
		longest = max(longest, time.Duration(ns))
	}
	return writes, longest, lines.Err()
}

// watched is a contender with the application running on the group's first volume, before, while and after it acts. Its
// samples have the longest stall only.
type watched struct {
	contender
	point string
}

func (watched) rounds(int) int { return 6 }

func (w watched) round(ctx context.Context, n int) (sample, error) {
	a, err := startApplication(w.point)
	if err != nil {
		return sample{}, err
	}
	time.Sleep(time.Second) // it lays its file out first
	_, err = w.contender.round(ctx, n)
	writes, longest, e := a.stop()
	if err = errors.Join(err, e); err == nil && writes < 10 {
		err = fmt.Errorf("the application made %d writes only", writes)
	}
	return sample{stall: longest}, err
}

// nothing is what the stalls are to be seen beside: a second in which nothing else happens.
type nothing struct{}

func (nothing) name() string   { return "nothing" }
func (nothing) rounds(int) int { return 6 }
func (nothing) round(context.Context, int) (sample, error) {
	time.Sleep(time.Second)
	return sample{}, nil
}
