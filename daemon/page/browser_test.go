//go:build browser

package page

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

// browser is a Chromium without a window, to which one speaks the DevTools protocol through two pipes: a JSON object a message,
// ended by a zero byte.
type browser struct {
	t       *testing.T
	to      *os.File
	from    *bufio.Reader
	number  int
	session string
	events  []event
}

type event struct {
	Method string
	Params json.RawMessage
}

func chromium(t *testing.T) *browser {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		if out, err := exec.Command("../../.ci/need", "chromium").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	hear, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	c := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
		"--remote-debugging-pipe", "--user-data-dir="+filepath.Join(home, "profile"), "about:blank")
	c.Env = append(os.Environ(), "HOME="+home, "DBUS_SESSION_BUS_ADDRESS=unix:path="+home+"/none")
	c.ExtraFiles = []*os.File{hear, say} // 3 and 4
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	hear.Close()
	say.Close()
	b := &browser{t: t, to: to, from: bufio.NewReader(from)}
	if err := from.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.session = ""
		b.call("Browser.close", nil, nil)
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
		to.Close()
		from.Close()
	})
	return b
}

// call calls a method and reads its result; what happens meanwhile is kept.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.number++
	message := map[string]any{"id": b.number, "method": method}
	if params != nil {
		message["params"] = params
	}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	text, err := json.Marshal(message)
	if err == nil {
		_, err = b.to.Write(append(text, 0))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	for {
		var answer struct {
			event
			ID     int
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		b.next(&answer)
		switch {
		case answer.ID == 0:
			b.events = append(b.events, answer.event)
		case answer.ID == b.number && answer.Error != nil:
			b.t.Fatalf("%s: %s", method, answer.Error.Message)
		case answer.ID == b.number:
			if result != nil {
				if err := json.Unmarshal(answer.Result, result); err != nil {
					b.t.Fatal(err)
				}
			}
			return
		}
	}
}

func (b *browser) next(message any) {
	b.t.Helper()
	text, err := b.from.ReadBytes(0)
	if err == nil {
		err = json.Unmarshal(text[:len(text)-1], message)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// open opens a page in a tab of its own, and waits until it is there.
func (b *browser) open(url string, width int, scheme string) {
	b.t.Helper()
	b.session, b.events = "", nil
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Log", "Runtime"} {
		b.call(domain+".enable", nil, nil)
	}
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	loaded := func() bool {
		for _, e := range b.events {
			if e.Method == "Page.loadEventFired" {
				return true
			}
		}
		return false
	}
	for !loaded() {
		var e event
		b.next(&e)
		b.events = append(b.events, e)
	}
}

// eval evaluates an expression in the page, as somebody would in the console.
func (b *browser) eval(expression string, value any) {
	b.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &r)
	err := errors.New(string(r.ExceptionDetails))
	if r.ExceptionDetails == nil {
		err = json.Unmarshal(r.Result.Value, value)
	}
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
}

// complaints are what the console shows.
func (b *browser) complaints() []string {
	var out []string
	for _, e := range b.events {
		switch e.Method {
		case "Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown":
			out = append(out, string(e.Params))
		}
	}
	return out
}

// hostile is an overview whose names are long, and no words.
func hostile() *api.Overview {
	o := example()
	long := strings.Repeat("<b>&quot;'", 40)
	o.Host = long
	for i := range o.Pools {
		o.Pools[i].Name += long
	}
	for i := range o.Policies {
		o.Policies[i].Name += long
	}
	for i := range o.Writers {
		o.Writers[i].Name += long
	}
	for i := range o.Sets {
		o.Sets[i].ID += long
		o.Sets[i].Policy += long
		for j := range o.Sets[i].Volumes {
			o.Sets[i].Volumes[j].MountPoint += long
		}
	}
	o.Problems = append(o.Problems, long)
	return o
}

// The page as a browser shows it: nothing that it complains of, no script, nothing wider than the screen, in both themes. With
// FERMATA_SCREENSHOTS=DIR it leaves pictures there.
func TestBrowser(t *testing.T) {
	b := chromium(t)
	grounds := map[string]bool{}
	for name, o := range map[string]*api.Overview{"page": example(), "hostile": hostile()} {
		s := httptest.NewServer(serving(t, o, nil))
		t.Cleanup(s.Close)
		for _, width := range []int{360, 1280} {
			for _, scheme := range []string{"light", "dark"} {
				b.open(s.URL, width, scheme)
				shot(b, fmt.Sprintf("%s-%d-%s", name, width, scheme))
				for _, text := range b.complaints() {
					t.Errorf("%s, %d, %s: the console says %s", name, width, scheme, text)
				}
				var found struct {
					Scripts, Width int
					Ground         string
					Wide           []string
				}
				b.eval(`(() => {
					for (const d of document.querySelectorAll("details")) d.open = true
					const wide = [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 0.5)
					return {Scripts: document.scripts.length, Width: document.documentElement.scrollWidth, Ground: getComputedStyle(document.body).backgroundColor,
						Wide: wide.slice(0, 5).map(e => e.outerHTML.slice(0, 200))}
				})()`, &found)
				if found.Scripts != 0 || found.Width > width || len(found.Wide) > 0 {
					t.Errorf("%s, %s: at a width of %d it is %d wide and has %d scripts; too wide are %q", name, scheme, width, found.Width, found.Scripts, found.Wide)
				}
				grounds[scheme+found.Ground] = true
			}
		}
	}
	if len(grounds) != 2 {
		t.Errorf("grounds by theme: %v", grounds)
	}
	// A script would not run, if one got into the page.
	var ran bool
	b.eval(`(() => { const s = document.createElement("script"); s.textContent = "window.ran = true"; document.body.append(s); return window.ran === true })()`, &ran)
	if ran {
		t.Error("a script ran")
	}
}

func shot(b *browser, name string) {
	dir := os.Getenv("FERMATA_SCREENSHOTS")
	if dir == "" {
		return
	}
	var picture struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true, "format": "png"}, &picture)
	data, err := base64.StdEncoding.DecodeString(picture.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), data, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
