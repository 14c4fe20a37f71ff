package mongodb

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// The example of bsonspec.org.
func TestBSON(t *testing.T) {
	const hello = "\x16\x00\x00\x00\x02hello\x00\x06\x00\x00\x00world\x00\x00"
	if got := string(document{{"hello", "world"}}.encode()); got != hello {
		t.Errorf("%q", got)
	}
	const arrays = "\x31\x00\x00\x00\x04BSON\x00\x26\x00\x00\x00\x02\x30\x00\x08\x00\x00\x00awesome\x00\x01\x31\x00\x33\x33\x33\x33\x33\x33\x14\x40\x10\x32\x00\xc2\x07\x00\x00\x00\x00"
	got, rest, err := parseDocument([]byte(arrays+"x"), maxDepth)
	want := reply{"BSON": reply{"0": "awesome", "1": 5.05, "2": int64(1986)}}
	if !reflect.DeepEqual(got, want) || string(rest) != "x" || err != nil {
		t.Errorf("%v, %q, %v", got, rest, err)
	}
	d := document{{"i", int32(-1)}, {"l", int64(1) << 40}, {"b", true}, {"s", ""}, {"bin", []byte{0, 1}}, {"d", document{{"x", false}}}}
	got, rest, err = parseDocument(d.encode(), maxDepth)
	want = reply{"i": int64(-1), "l": int64(1) << 40, "b": true, "s": "", "bin": []byte{0, 1}, "d": reply{"x": false}}
	if !reflect.DeepEqual(got, want) || len(rest) != 0 || err != nil {
		t.Errorf("%v, %q, %v", got, rest, err)
	}
}

// Types that are of no interest are passed over, what is cut off is refused.
func TestTypes(t *testing.T) {
	var b []byte
	for kind, value := range map[byte]string{
		0x06: "", 0x07: strings.Repeat("x", 12), 0x09: "12345678", 0x0A: "", 0x0B: "a*\x00i\x00", 0x0D: "\x02\x00\x00\x00f\x00",
		0x11: "12345678", 0x13: strings.Repeat("x", 16), 0x7F: "", 0xFF: "", 0x12: "\x05\x00\x00\x00\x00\x00\x00\x00",
	} {
		b = append(append(append(b, kind), hex.EncodeToString([]byte{kind})...), 0)
		b = append(b, value...)
	}
	whole := append([]byte{byte(len(b) + 5), 0, 0, 0}, append(b, 0)...)
	got, _, err := parseDocument(whole, maxDepth)
	if n, numberErr := got.number("12"); err != nil || numberErr != nil || n != 5 || len(got) != 11 || got["0d"] != "f" {
		t.Errorf("%v, %v", got, err)
	}
	for n := range whole {
		if _, _, err := parseDocument(whole[:n], maxDepth); !errors.Is(err, errBSON) {
			t.Errorf("cut to %d: %v", n, err)
		}
	}
	for _, bad := range []string{
		"\x0d\x00\x00\x00\x02a\x00\xff\xff\xff\x7fx\x00", // a string longer than all
		"\x0d\x00\x00\x00\x02a\x00\x00\x00\x00\x00x\x00",
		"\x08\x00\x00\x00\x99a\x00\x00", // unknown type
		"\x07\x00\x00\x00\x0aab",        // no end
		"\x0d\x00\x00\x00\x05a\x00\xff\xff\xff\xff\x00\x00",
		"\xff\xff\xff\xff\x00",
	} {
		if _, _, err := parseDocument([]byte(bad), maxDepth); !errors.Is(err, errBSON) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	deep := document{}
	for range maxDepth {
		deep = document{{"d", deep}}
	}
	if _, _, err := parseDocument(deep.encode(), maxDepth); !errors.Is(err, errBSON) {
		t.Errorf("too deep: %v", err)
	}
}

func TestMessages(t *testing.T) {
	sent := message(7, 3, document{{"ok", true}})
	answers, d, err := readMessage(bytes.NewReader(sent))
	if answers != 3 || !d.yes("ok") || err != nil {
		t.Errorf("%d, %v, %v", answers, d, err)
	}
	change := func(at int, to byte) []byte { b := bytes.Clone(sent); b[at] = to; return b }
	withChecksum := append(change(16, checksum), 1, 2, 3, 4)
	withChecksum[0] += 4
	if _, d, err := readMessage(bytes.NewReader(withChecksum)); !d.yes("ok") || err != nil {
		t.Errorf("with checksum: %v, %v", d, err)
	}
	for name, b := range map[string][]byte{
		"other message": change(12, 1), "too long": change(3, 1), "too short": change(0, 17), "cut off": sent[:20],
		"unknown flags": change(16, 2), "other section": change(20, 1), "HTTP": []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
	} {
		if _, _, err := readMessage(bytes.NewReader(b)); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// The example of RFC 7677, section 3.
func TestSCRAM(t *testing.T) {
	s := scram{user: "user", password: "pencil", nonce: "rOprNGfwEbeRWgbNEkqO"}
	if got := s.first(); got != "n=user,r=rOprNGfwEbeRWgbNEkqO" {
		t.Error(got)
	}
	const server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	final, err := s.final(server)
	if want := "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="; final != want || err != nil {
		t.Errorf("%s, %v", final, err)
	}
	if err := s.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"v=", "", "e=invalid-proof"} {
		if s.verify(bad) == nil {
			t.Errorf("%q was believed", bad)
		}
	}
	for _, bad := range []string{"", "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1", "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=99999999", "r=rOprNGfwEbeRWgbNEkqOx,s=!,i=4096"} {
		if _, err := s.final(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if got := (&scram{user: "a=b,c"}).first(); got != "n=a=3Db=2Cc,r=" {
		t.Error(got)
	}
}

func FuzzReadMessage(f *testing.F) {
	f.Add(message(1, 0, document{{"ok", int32(1)}, {"d", document{{"s", "x"}}}, {"b", []byte("y")}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, d, err := readMessage(bytes.NewReader(b)); err == nil && len(d) > len(b) {
			t.Errorf("%d elements of %d bytes", len(d), len(b))
		}
	})
}
