package redis

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Bounds of a reply. The longest that is asked for is INFO, a few KiB.
const (
	maxText  = 1 << 20 // bytes of a string
	maxItems = 1 << 10 // of an array
	maxDepth = 4       // of arrays in arrays
)

// Error is what the server answered instead of a reply. Code is its first word,
// which the protocol gives a meaning: NOPERM, NOAUTH, LOADING, READONLY, ERR.
type Error struct{ Code, Text string }

func (e *Error) Error() string { return strings.TrimSpace(e.Code + " " + e.Text) }

// hasCode says whether err is the server's refusal with one of these codes.
func hasCode(err error, codes ...string) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	for _, code := range codes {
		if e.Code == code {
			return true
		}
	}
	return false
}

// command is the words of a command as the protocol wants them: an array of
// strings (RESP2, which every version speaks).
func command(words ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, word := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(word), word)
	}
	return b
}

// readReply reads one reply: a string, an int64, nil, or a []any of these. The
// server's own errors are *Error; others end the connection's use.
func readReply(r *bufio.Reader) (any, error) { return readValue(r, maxDepth) }

func readValue(r *bufio.Reader, depth int) (any, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	if line == "" {
		return nil, errors.New("the server sent an empty line")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+':
		return rest, nil
	case '-':
		code, text, _ := strings.Cut(rest, " ")
		return nil, &Error{code, text}
	case ':':
		n, err := strconv.ParseInt(rest, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the server sent a bad number: %w", err)
		}
		return n, nil
	case '$':
		return readText(r, rest)
	case '*':
		return readArray(r, rest, depth)
	}
	return nil, fmt.Errorf("the server does not speak the protocol of Redis: it sent %.40q", line)
}

func readText(r *bufio.Reader, length string) (any, error) {
	n, err := readLength(length, maxText)
	if n < 0 || err != nil {
		return nil, err
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	if string(b[n:]) != "\r\n" {
		return nil, errors.New("the server sent a string of the wrong length")
	}
	return string(b[:n]), nil
}

func readArray(r *bufio.Reader, length string, depth int) (any, error) {
	n, err := readLength(length, maxItems)
	if n < 0 || err != nil {
		return nil, err
	}
	if depth == 0 {
		return nil, errors.New("the server sent too many arrays in arrays")
	}
	items := make([]any, n)
	for i := range items {
		if items[i], err = readValue(r, depth-1); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// readLength reads a length of at most limit; -1 stands for nil.
func readLength(s string, limit int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("the server sent a bad length: %w", err)
	}
	if n < -1 || n > limit {
		return 0, fmt.Errorf("the server sent a length of %d, more than the %d that are read", n, limit)
	}
	return n, nil
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", errors.New("the server sent a line that is too long")
	}
	if err != nil {
		return "", err
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return "", fmt.Errorf("the server does not speak the protocol of Redis: it sent %.40q", line)
	}
	return string(line[:len(line)-2]), nil
}
