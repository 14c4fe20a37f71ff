package mysql

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxOptionFile bounds an option file, in bytes.
const maxOptionFile = 64 << 10

// optionGroups are those of an option file that are read.
var optionGroups = []string{"client", "fermata"}

// login is what an option file says of a connection.
type login struct{ user, password, socket, host, port string }

// readLogin reads an option file. One that has a password must not be readable by
// everybody.
func readLogin(path string) (l login, err error) {
	f, err := os.Open(path)
	if err != nil {
		return login{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return login{}, err
	}
	content, err := io.ReadAll(io.LimitReader(f, maxOptionFile+1))
	if err != nil {
		return login{}, err
	}
	if len(content) > maxOptionFile {
		return login{}, fmt.Errorf("%s is longer than %d bytes", path, maxOptionFile)
	}
	if l, err = parseLogin(content); err != nil {
		return login{}, fmt.Errorf("%s: %w", path, err)
	}
	if l.password != "" && info.Mode().Perm()&0o007 != 0 {
		return login{}, fmt.Errorf("everybody may read or change %s, and the password in it: chmod o= it", path)
	}
	return l, nil
}

// parseLogin understands option files (MySQL manual, "Using Option Files") as far
// as a connection needs it. What other groups and other options say is passed
// over; other files are not read, and naming some is an error.
func parseLogin(content []byte) (login, error) {
	l := login{port: "3306"}
	keys := map[string]*string{"user": &l.user, "password": &l.password, "socket": &l.socket, "host": &l.host, "port": &l.port}
	ours := false
	number := 0
	for line := range bytes.Lines(content) {
		number++
		s := strings.TrimSpace(string(line))
		switch {
		case s == "" || s[0] == '#' || s[0] == ';':
		case s[0] == '!':
			return login{}, fmt.Errorf("line %d names other files, which are not read: write user and password here", number)
		case s[0] == '[':
			name, rest, closed := strings.Cut(s[1:], "]")
			if !closed || rest != "" && !strings.HasPrefix(strings.TrimSpace(rest), "#") {
				return login{}, fmt.Errorf("line %d: a group is written [NAME]", number)
			}
			ours = false
			for _, g := range optionGroups {
				ours = ours || g == name
			}
		case ours:
			key, value, _ := strings.Cut(s, "=")
			if to := keys[strings.TrimSpace(key)]; to != nil {
				*to = optionValue(value)
			}
		}
	}
	return l, nil
}

// optionValue removes a comment, or else the quotes, and resolves what stands for
// other characters.
func optionValue(s string) string {
	s = strings.TrimSpace(s)
	if n := len(s); n > 0 && (s[0] == '"' || s[0] == '\'') {
		if end := strings.LastIndexByte(s, s[0]); end > 0 {
			s = s[1:end]
		}
	} else if i := strings.IndexByte(s, '#'); i >= 0 {
		s = strings.TrimSpace(s[:i])
	}
	return strings.NewReplacer(`\b`, "\b", `\t`, "\t", `\n`, "\n", `\r`, "\r", `\s`, " ", `\\`, `\`, `\"`, `"`, `\'`, `'`).Replace(s)
}
