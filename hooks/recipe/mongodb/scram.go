package mongodb

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Iterations that a server may ask for (RFC 7677 wants 4096 at least).
const minIterations, maxIterations = 4096, 1 << 20

// logIn authenticates by SCRAM-SHA-256 (RFC 5802, RFC 7677), which shows the
// server that we know the password, and us that the server does.
func logIn(ctx context.Context, c *conn, user, password string) error {
	if strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r > '~' }) {
		return errors.New("the password has characters that are not ASCII, which are not supported")
	}
	s := scram{user: user, password: password, nonce: rand.Text()}
	first, err := c.run(ctx, document{{"saslStart", int32(1)}, {"mechanism", "SCRAM-SHA-256"}, {"payload", []byte("n,," + s.first())},
		{"options", document{{"skipEmptyExchange", true}}}})
	if err != nil {
		return err
	}
	payload, _ := first["payload"].([]byte)
	final, err := s.final(string(payload))
	if err != nil {
		return err
	}
	id, err := first.number("conversationId")
	if err != nil {
		return err
	}
	last, err := c.run(ctx, document{{"saslContinue", int32(1)}, {"conversationId", int32(id)}, {"payload", []byte(final)}})
	if err != nil {
		return err
	}
	payload, _ = last["payload"].([]byte)
	return s.verify(string(payload))
}

// scram is one exchange.
type scram struct {
	user, password, nonce string
	signature             []byte // that the server has to give
}

// first is the client's first message, without its header.
func (s *scram) first() string {
	return "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(s.user) + ",r=" + s.nonce
}

// final answers the server's first message.
func (s *scram) final(server string) (string, error) {
	fields := map[byte]string{}
	for _, part := range strings.Split(server, ",") {
		if len(part) > 1 && part[1] == '=' {
			fields[part[0]] = part[2:]
		}
	}
	salt, errSalt := base64.StdEncoding.DecodeString(fields['s'])
	iterations, errIterations := strconv.Atoi(fields['i'])
	if err := errors.Join(errSalt, errIterations); err != nil {
		return "", fmt.Errorf("the server's first message cannot be understood: %w", err)
	}
	if !strings.HasPrefix(fields['r'], s.nonce) || len(fields['r']) == len(s.nonce) {
		return "", errors.New("the server answers another login")
	}
	if iterations < minIterations || iterations > maxIterations {
		return "", fmt.Errorf("the server wants %d iterations, which is not between %d and %d", iterations, minIterations, maxIterations)
	}
	salted, err := pbkdf2.Key(sha256.New, s.password, salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	final := "c=biws,r=" + fields['r']
	said := s.first() + "," + server + "," + final
	key := mac(salted, "Client Key")
	stored := sha256.Sum256(key)
	proof := mac(stored[:], said)
	subtle.XORBytes(proof, proof, key)
	s.signature = mac(mac(salted, "Server Key"), said)
	return final + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

// verify is nil if the server knows the password.
func (s *scram) verify(server string) error {
	if !hmac.Equal([]byte(server), []byte("v="+base64.StdEncoding.EncodeToString(s.signature))) {
		return errors.New("the server does not know the password: is it the right one?")
	}
	return nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
