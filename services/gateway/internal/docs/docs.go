// Package docs serves the page that shows the OpenAPI document, with all that
// it needs on board: it works without internet access.
package docs

import (
	"compress/gzip"
	"embed"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed index.html assets
var files embed.FS

// policy allows the page its own scripts, styles and requests, and nothing from
// anywhere else. Swagger UI shows its icons as data URLs.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the page at /docs and its parts below /docs/assets/. What is
// not there is left to notFound.
func Handler(notFound http.Handler) http.Handler {
	assets := http.StripPrefix("/docs/", http.FileServerFS(files))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/docs/")
		switch info, err := fs.Stat(files, name); {
		case r.URL.Path == "/docs" || r.URL.Path == "/docs/":
			setHeaders(w.Header())
			http.ServeFileFS(w, r, files, "index.html")
		case err == nil && !info.IsDir() && strings.HasPrefix(name, "assets/"):
			setHeaders(w.Header())
			assets.ServeHTTP(w, r)
		case isPacked(name):
			setHeaders(w.Header())
			servePacked(w, r, name)
		default:
			notFound.ServeHTTP(w, r)
		}
	})
}

func isPacked(name string) bool {
	_, err := fs.Stat(files, name+".gz")
	return err == nil && strings.HasPrefix(name, "assets/")
}

// servePacked serves what is kept compressed: the script is, which is large. All
// browsers take it like that; for others it is unpacked.
func servePacked(w http.ResponseWriter, r *http.Request, name string) {
	h := w.Header()
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	h.Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		http.ServeFileFS(w, r, files, name+".gz")
		return
	}
	file, err := files.Open(name + ".gz")
	if err == nil {
		defer func() { _ = file.Close() }()
		var plain io.Reader
		if plain, err = gzip.NewReader(file); err == nil {
			_, _ = io.Copy(w, plain) // whoever does not read on has gone
		}
	}
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
}

func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "max-age=3600")
}
