package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
)

// faults are how it misbehaves, by method.
type faults map[protocol.Method]fault

type fault struct {
	how   string
	delay time.Duration
}

// flags adds an option for every kind of misbehaviour, which can be given for several methods.
func (f faults) flags(set *flag.FlagSet) {
	for how, help := range map[string]string{
		"fail": "answer `METHOD` with an error", "hang": "never answer `METHOD`", "die": "exit when asked for `METHOD`",
		"garble": "answer `METHOD` with what is no JSON", "stale": "answer `METHOD` as if it were an earlier request",
		"late": "answer METHOD late: `METHOD=DURATION`",
	} {
		set.Func(how, help, func(text string) (err error) {
			name, delay, timed := strings.Cut(text, "=")
			x := fault{how: how}
			if timed {
				x.delay, err = time.ParseDuration(delay)
			}
			switch {
			case err != nil:
				return err
			case timed != (how == "late"):
				return fmt.Errorf("only --late takes a duration, and it needs one: %q", text)
			case !slices.Contains(protocol.Methods, protocol.Method(name)):
				return fmt.Errorf("no method %q: it is one of %v", name, protocol.Methods)
			}
			f[protocol.Method(name)] = x
			return nil
		})
	}
}

// around answers as it was told to.
func (f faults) around(q protocol.Request, answer func() []byte) []byte {
	x := f[q.Method]
	switch x.how {
	case "fail":
		return line(q.ID, &protocol.Error{Code: protocol.Failed, Message: "told to fail"})
	case "hang":
		select {}
	case "die":
		fmt.Fprintln(os.Stderr, "told to die at", q.Method)
		os.Exit(3)
	case "garble":
		return []byte("}{ told to garble\n")
	case "stale":
		answer()
		return line(max(1, q.ID-1), nil)
	case "late":
		b := answer()
		time.Sleep(x.delay)
		return b
	}
	return answer()
}

func line(id uint64, e *protocol.Error) []byte {
	a := protocol.Answer{Fermata: protocol.Version, ID: id, Error: e}
	if e == nil {
		a.Result = &protocol.Result{}
	}
	b, err := protocol.Line(a)
	if err != nil {
		panic(err) // two short texts
	}
	return b
}
