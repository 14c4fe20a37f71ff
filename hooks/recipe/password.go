package recipe

import (
	"fmt"
	"os"
	"strings"
)

// maxPassword is how much of a password file is read, in bytes.
const maxPassword = 4 << 10

// ReadPassword reads a file that others may not read or change, without the
// newline at its end.
func ReadPassword(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("the password's file %s is open to everybody, or no file: chmod o= %s", path, path)
	}
	b := make([]byte, maxPassword)
	n, err := f.Read(b)
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	return strings.TrimRight(string(b[:n]), "\r\n"), nil
}
