package page

import (
	"embed"
	"io/fs"
	"net/http"
	"path"
)

//go:embed static
var static embed.FS

// file is one of those that the page is made of. Its content stays in the binary
// until the first request: most sidecars never get one.
type file struct {
	path string // in static
	mime string
}

func (f file) read() []byte {
	body, err := static.ReadFile(f.path)
	if err != nil {
		panic(err) // it is part of the binary
	}
	return body
}

var mimes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// files are the paths that are served, with the pattern for nothing but / itself.
func files() map[string]file {
	all := map[string]file{}
	entries, err := fs.ReadDir(static, "static")
	if err != nil {
		panic(err) // it is part of the binary
	}
	for _, e := range entries {
		name := "/page/" + e.Name()
		if e.Name() == "index.html" {
			name = "/{$}"
		}
		all[name] = file{path: "static/" + e.Name(), mime: mimes[path.Ext(e.Name())]}
	}
	return all
}

func (p *Page) static(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Path
	if name == "/" {
		name = "/{$}"
	}
	f := p.files[name]
	w.Header().Set("Content-Type", f.mime)
	_, _ = w.Write(f.read()) // to a browser that may have left
}

// policy allows what the page consists of and nothing else: no inline script or
// style, no other site, no frame around it, and (trusted types) no text that
// becomes markup, should code ever write innerHTML.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// secure adds the headers that every answer has.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
