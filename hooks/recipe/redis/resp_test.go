package redis

import (
	"bufio"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestReadReply(t *testing.T) {
	for _, test := range []struct {
		in   string
		want any
		err  string // part of it
	}{
		{"+OK\r\n", "OK", ""},
		{":-42\r\n", int64(-42), ""},
		{"$5\r\nab\r\nc\r\n", "ab\r\nc", ""},
		{"$0\r\n\r\n", "", ""},
		{"$-1\r\n", nil, ""},
		{"*-1\r\n", nil, ""},
		{"*3\r\n+a\r\n:1\r\n*1\r\n$-1\r\n", []any{"a", int64(1), []any{nil}}, ""},
		{"-NOPERM no permissions\r\n", nil, "NOPERM no permissions"},
		{"-ERR\r\n", nil, "ERR"},
		{"", nil, "EOF"},
		{"\r\n", nil, "empty line"},
		{"+OK\n", nil, "does not speak"},
		{"HTTP/1.1 400 Bad Request\r\n", nil, "does not speak the protocol of Redis"},
		{":many\r\n", nil, "bad number"},
		{"$many\r\n", nil, "bad length"},
		{"$-2\r\n", nil, "length of -2"},
		{"$1048577\r\n", nil, "more than the 1048576"},
		{"*1025\r\n", nil, "more than the 1024"},
		{"$3\r\nab\r\n\r\n", nil, "wrong length"},
		{"$3\r\nab", nil, "EOF"},
		{"*2\r\n+a\r\n", nil, "EOF"},
		{strings.Repeat("*1\r\n", 6), nil, "too many arrays"},
		{"+" + strings.Repeat("x", 5000) + "\r\n", nil, "too long"},
	} {
		got, err := readReply(bufio.NewReader(strings.NewReader(test.in)))
		if !reflect.DeepEqual(got, test.want) || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%.40q: %v, %v, want %v, %q", test.in, got, err, test.want, test.err)
		}
	}
	if _, err := readReply(bufio.NewReader(strings.NewReader("-NOAUTH x\r\n"))); !hasCode(err, "WRONGPASS", "NOAUTH") || hasCode(err, "ERR") || hasCode(io.EOF, "ERR") {
		t.Errorf("codes of %v", err)
	}
}

func TestCommand(t *testing.T) {
	if got, want := string(command("AUTH", "a\r\nb")), "*2\r\n$4\r\nAUTH\r\n$4\r\na\r\nb\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// What was read is bounded, and is said the same when it is said again.
func FuzzReadReply(f *testing.F) {
	for _, s := range []string{"+OK\r\n", "*2\r\n$1\r\na\r\n:1\r\n", "-ERR x\r\n", "$-1\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := bufio.NewReader(strings.NewReader(s))
		reply, err := readReply(r)
		if e := (*Error)(nil); errors.As(err, &e) && reply != nil {
			t.Errorf("%v beside %v", reply, err)
		}
		if words, ok := reply.([]any); ok && len(words) > maxItems {
			t.Errorf("%d items", len(words))
		}
		if text, ok := reply.(string); ok && len(text) > maxText {
			t.Errorf("%d bytes", len(text))
		}
	})
}
