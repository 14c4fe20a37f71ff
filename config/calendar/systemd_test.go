package calendar

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What Parse takes, this host's systemd does, and the other way round: for expressions made at random of what they consist of.
func TestAsSystemd(t *testing.T) {
	const seed = 7
	rnd := rand.New(rand.NewPCG(seed, 0))
	args := []string{"calendar", "--"}
	for range 800 {
		args = append(args, random(rnd))
	}
	c := exec.Command("systemd-analyze", args...)
	c.Env = append(os.Environ(), "LANG=C.UTF-8", "SYSTEMD_COLORS=0")
	out, err := c.CombinedOutput()
	if failed := (*exec.ExitError)(nil); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	refused := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		if text, found := strings.CutPrefix(line, "Failed to parse calendar specification '"); found {
			refused[text[:strings.LastIndexByte(text, '\'')]] = true
		}
	}
	for _, text := range args[2:] {
		if _, err := Parse(text); (err != nil) != refused[text] {
			t.Errorf("%q: %v; systemd refuses it: %t", text, err, refused[text])
		}
	}
	if n := len(refused); n < 100 || n > 700 {
		t.Errorf("systemd refuses %d of %d: the test says little", n, len(args)-2)
	}
}

// random is an expression, or almost one.
func random(rnd *rand.Rand) string {
	of := func(texts ...string) string { return texts[rnd.IntN(len(texts))] }
	number := func(values ...string) string {
		if rnd.IntN(12) == 0 {
			return of("0", "1", "24", "31", "32", "60", "70", "", "x", "1.5", "00", "-1", "2200", "1969")
		}
		return of(values...)
	}
	chain := func(values ...string) string {
		if rnd.IntN(3) == 0 {
			return "*"
		}
		var parts []string
		for range 1 + rnd.IntN(2)*rnd.IntN(3) {
			part := number(values...)
			if rnd.IntN(3) == 0 {
				part += ".." + number(values...)
			}
			if rnd.IntN(3) == 0 {
				part += "/" + number("1", "2", "5", "7", "15", "30", "0")
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, ",")
	}
	weekday := func() string {
		day := func() string { return of("Mon", "tue", "Wednesday", "THU", "Fri", "Saturday", "sun", "Frei") }
		if rnd.IntN(2) == 0 {
			return day()
		}
		return day() + of("..", ",", "-", "..", ",") + day() + of("", "", "", ",")
	}
	date := func() string {
		day := of("-", "-", "~") + chain("1", "2", "7", "15", "28", "31", "03", "29")
		month := chain("1", "2", "3", "6", "12", "07", "11")
		if rnd.IntN(3) == 0 {
			return month + day
		}
		return chain("2026", "2027", "2030", "26", "69", "70", "2199", "1970") + "-" + month + day
	}
	clock := func() string {
		text := chain("0", "1", "8", "12", "18", "23", "02") + ":" + chain("0", "5", "15", "30", "45", "59", "00")
		if rnd.IntN(2) == 0 {
			text += ":" + chain("0", "1", "1.5", "0.5", "30", "59", "59.9", "59.999999", "00", "7.25")
		}
		return text
	}
	var fields []string
	if rnd.IntN(4) == 0 {
		fields = append(fields, weekday())
	}
	switch rnd.IntN(20) {
	case 0:
		fields = append(fields, of("daily", "Hourly", "weekly", "monthly", "annually", "often"))
	case 1:
		fields = append(fields, "@"+of("0", "1800000000", "7258118399", "7258118400", "x", "", "1.5", "1800000000x"))
	default:
		if rnd.IntN(2) == 0 {
			fields = append(fields, date())
		}
		if rnd.IntN(3) > 0 || len(fields) == 0 {
			fields = append(fields, clock())
		}
	}
	if rnd.IntN(6) == 0 {
		fields = append(fields, of("UTC", "utc", "Europe/Berlin", "Europe/Nowhere", "12:00"))
	}
	return strings.Join(fields, " ")
}
