package calendar

import (
	"strings"
	"testing"
	"time"
)

func TestLongest(t *testing.T) {
	const day = 24 * time.Hour
	from := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"daily": day, "hourly": time.Hour, "minutely": time.Minute, "weekly": 7 * day, "monthly": 31 * day, "Yearly": 366 * day,
		"quarterly": 92 * day, "semiannually": 184 * day,
		"*:0/15": 15 * time.Minute, "*:00/10": 10 * time.Minute, "8..18:00": 14 * time.Hour, "8..18/2:30": 14 * time.Hour,
		"Mon..Fri 22:00": 3 * day, "Mon..Fri *-*-* 8..18:00": 62 * time.Hour, "Sat,Sun 3:00": 6 * day, "Mon-Fri 22:00": 3 * day,
		"Sun *-*-* 02:30:00 Europe/Berlin": 7 * day, "*-*-* 00,12:00 UTC": 12 * time.Hour, "02:30": day,
		"*-*-01 04:00": 31 * day, "*-*~1 04:00": 31 * day, "*~1": 31 * day, "*-02-29": (4*365 + 1) * day, "Mon *-*-1..7 00:00": 35 * day,
		"*-1/3-1": 92 * day, "*:*:0/20": 40 * time.Second, "2026..2030-12-24 20:00": 366 * day, "*-*-* *:05:07.5": time.Hour,
		"Mon": 7 * day, "Mon, 12:00": 7 * day, "26..30-12-24": 366 * day,
		"1..24/5:00": 5 * time.Hour, "8..12/30:00": day, "*~1,3..5 0:00": 27 * day,
	} {
		e, err := Parse(text)
		if err != nil {
			t.Error(err)
			continue
		}
		if got, ok := e.Longest(from); !ok || got != want {
			t.Errorf("%s: %v, %v, not %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"2026-12-24 20:00", "2020-01-01", "*-02-30", "@1800000000", "Mon @1800000000 UTC"} { // once, or never again
		e, err := Parse(text)
		if err != nil {
			t.Error(err)
			continue
		}
		if got, ok := e.Longest(from); ok {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestEachHour(t *testing.T) {
	for text, want := range map[string]bool{
		"*:0/15": true, "hourly": true, "minutely": true, "*-*-* *:00,30:00": true, "*:0/15 UTC": false, "hourly Europe/Berlin": false,
		"daily": false, "Mon..Fri *:0/15": false, "8..18:0/15": false, "*-*-1 *:00": false, "2027-*-* *:00": false,
	} {
		if e, err := Parse(text); err != nil || e.EachHour() != want {
			t.Errorf("%s: %v, %v", text, e.EachHour(), err)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"": "it is empty", "  ": "it is empty", "often": "is no date", "25:00": "25 is not from 0 to 23", "*:60": "60 is not from 0 to 59",
		"*:0/0": "a repetition of 0", "*:0/60": "comes once only", "*/2:00": "is no number", "Fri..Mon 1:00": "runs backwards", "Mon..Frei": "is no day of the week",
		"*-13-01": "13 is not from 1 to 12", "1:2:3:4": "is no time", "18..8:00": "runs backwards", "daily hourly": "is no date", "*-1-1 2-2": "is too much", "2027-01-01T12:00": "is no number", "*-1-1 Mon": "is too much",
		"1:00 Europe/Nowhere": "is no date", "*-*-0": "0 is not from 1 to 31", "*:*:60": "60 is not from 0 to 59", "1,,2:00": "is no number",
		"-1:00": "is no number", strings.Repeat("1", 300): "longer than 256 bytes", "*:1.5": "is no number", "Mon Tue 1:00": "is no date",
		"*:*:0..0": "shorter than a second", "*:*:1..1.5": "shorter than a second", "1..25:00": "25 is not from 0 to 23",
		"*~28/2,1": "systemd takes no more than 25", "@": "is no number of seconds", "@-1": "is no number of seconds", "@7258118400": "before 2200",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, not %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"daily", "Mon..Fri *-*-* 8..18:00:00 UTC", "*-*~3,1 *:0/15", "12:00:30.5 utc"} {
		f.Add(text)
	}
	from := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text)
		if err != nil {
			if len(err.Error()) > 1200 {
				t.Errorf("%d bytes of error", len(err.Error()))
			}
			return
		}
		if d, ok := e.Longest(from); ok && (d <= 0 || d > horizon*24*time.Hour) {
			t.Errorf("%q: %v", text, d)
		}
	})
}
