// Package page is the status page: what there is and how it goes, for people, in a browser. It is made of an overview
// (api.Overview) alone, by html/template, which escapes every name; it needs no script, and its policy forbids any.
package page

import (
	"bytes"
	"context"
	"embed"
	"html/template"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

//go:embed page.html style.css icon.svg
var files embed.FS

var page = template.Must(template.ParseFS(files, "page.html"))

// policy allows our own style sheet and icon, and nothing else: no script, no style in the text, no frame, no form.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Source gives the daemon's overview, or says why there is none.
type Source func(context.Context) (*api.Overview, error)

// Handle adds the page to mux, at /. While the daemon does not answer, the page says so and shows what was seen last.
func Handle(mux *http.ServeMux, source Source, log *slog.Logger) {
	var last atomic.Pointer[api.Overview]
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		o, err := source(r.Context())
		if err == nil {
			last.Store(o)
		} else {
			log.Warn("the status page has no overview", "error", err)
			o = last.Load()
		}
		text, rendered := Render(o, err, time.Now())
		if rendered != nil {
			log.Error("internal error: cannot render the status page", "error", rendered)
			http.Error(w, "the page cannot be rendered", http.StatusInternalServerError)
			return
		}
		status := http.StatusOK
		if err != nil {
			status = http.StatusServiceUnavailable
		}
		send(w, status, "text/html; charset=utf-8", "no-store", text)
	})
	for name, kind := range map[string]string{"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"} {
		text, err := files.ReadFile(name)
		if err != nil {
			panic("internal error: " + err.Error()) // it is embedded
		}
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, _ *http.Request) {
			send(w, http.StatusOK, kind, "max-age=300", text)
		})
	}
}

func send(w http.ResponseWriter, status int, kind, cache string, text []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", cache)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, _ = w.Write(text) // whoever asked may have gone
}

// Render makes the page of an overview, at a time, whose zone it speaks in. An error says why the daemon did not answer; then the
// overview is what was seen last, or nil.
func Render(o *api.Overview, err error, now time.Time) ([]byte, error) {
	var b bytes.Buffer
	if err := page.Execute(&b, viewOf(o, err, now)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
