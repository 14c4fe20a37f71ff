package provider

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"sync"
)

// Host is who takes a snapshot. Several hosts can see the same volume group, and each removes only what it has left
// half-made itself.
type Host struct {
	Machine string // 16 hexadecimal digits that stand for its machine-id(5); empty: it has none
	Name    string
}

const machineIDFile = "/etc/machine-id"

// ThisHost is the one that this process runs on.
var ThisHost = sync.OnceValue(func() Host {
	id, _ := os.ReadFile(machineIDFile) // none: nothing is told of it
	name, _ := os.Hostname()
	return Host{machine(string(id)), name}
})

// application is Fermata's own id in machine.
const application = "\x5e\x0b\x3c\x9d\x21\x84\x4f\x6a\xb7\xd2\x0f\x6e\x93\x1a\xc8\x45"

// machine makes of a machine-id what may be told to whoever reads the tags: machine-id(5) asks for a keyed hash in place of
// the id itself, as sd_id128_get_machine_app_specific(3) makes one.
func machine(id string) string {
	key, err := hex.DecodeString(strings.TrimSpace(id))
	if err != nil || len(key) != 16 { // "uninitialized"
		return ""
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(application))
	return hex.EncodeToString(h.Sum(nil)[:8])
}
