package mongodb

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sasl is the server's side of a login with the password "pencil".
func (f *fake) sasl(r reply) document {
	payload, _ := r["payload"].([]byte)
	if _, first := r["saslStart"]; first {
		bare := strings.TrimPrefix(string(payload), "n,,")
		_, nonce, _ := strings.Cut(bare, ",r=")
		said := "r=" + nonce + "server,s=" + base64.StdEncoding.EncodeToString([]byte("salt")) + ",i=4096"
		f.said = bare + "," + said
		return document{{"ok", int32(1)}, {"conversationId", int32(9)}, {"done", false}, {"payload", []byte(said)}}
	}
	without, proof, _ := strings.Cut(string(payload), ",p=")
	salted, _ := pbkdf2.Key(sha256.New, "pencil", []byte("salt"), 4096, sha256.Size)
	key := mac(salted, "Client Key")
	stored := sha256.Sum256(key)
	want := mac(stored[:], f.said+","+without)
	subtle.XORBytes(want, want, key)
	id, _ := r.number("conversationId")
	if base64.StdEncoding.EncodeToString(want) != proof || id != 9 {
		return document{{"ok", int32(0)}, {"code", int32(18)}, {"errmsg", "Authentication failed."}}
	}
	signature := base64.StdEncoding.EncodeToString(mac(mac(salted, "Server Key"), f.said+","+without))
	return document{{"ok", int32(1)}, {"conversationId", int32(9)}, {"done", true}, {"payload", []byte("v=" + signature)}}
}

func TestLogin(t *testing.T) {
	for password, want := range map[string]string{"pencil": "", "pen": "Authentication failed. (code 18)", "pencïl": "not ASCII"} {
		f := start(t)
		path := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(path, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := f.writer(t, Options{User: "fermata", PasswordFile: path}).Prepare(t.Context(), f.set())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", password, err)
		}
		for _, line := range f.taken() {
			if strings.Contains(line, password) {
				t.Errorf("the password was sent: %s", line)
			}
		}
	}
}
