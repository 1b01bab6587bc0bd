// Package console serves the pages at /console: what is happening, one task
// among many, and what can be done about it. It keeps no truth of its own: what
// it shows and does goes through the HTTP API, in this process.
package console

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/client"
	"github.com/lovage-mq/lovage/pkg/messages"
)

//go:embed assets templates
var files embed.FS

// policy allows a page its own scripts, styles and requests, and nothing inline
// or from anywhere else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// callTimeout bounds what a page waits for. A pass over dead letters takes
// longest.
const callTimeout = 28 * time.Second

// Fleet says how the workers and the queues are, for the plots. It waits for
// nothing longer than its context.
type Fleet interface {
	Workers(ctx context.Context) ([]messages.WorkerInfo, error)
	// Ready returns how many tasks wait in a queue, if that is known.
	Ready(queue string) (n int, known bool)
}

// Options configure a [Console]. API and Fleet are required.
type Options struct {
	// API is the HTTP API that the pages are made from. What a browser shows as
	// its credentials goes with each call of it.
	API   http.Handler
	Fleet Fleet
	// Unguarded has every page say that nobody has to show a key.
	Unguarded bool
	Log       *zap.Logger
}

// Console is an [http.Handler] for /console and all below it. Use [New].
type Console struct {
	client  *client.Client
	sampler *sampler
	pages   *pages
	mux     *http.ServeMux
	streams chan struct{}
	// unguarded is that of the options.
	unguarded bool
	log       *zap.Logger
}

// New builds the console and starts nothing.
func New(o Options) (*Console, error) {
	if o.API == nil || o.Fleet == nil {
		return nil, errors.New("console: API and Fleet are required")
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	version, err := fingerprint(files)
	if err != nil {
		return nil, err
	}
	pages, err := parsePages(version)
	if err != nil {
		return nil, err
	}
	c := &Console{
		client:  &client.Client{BaseURL: "http://localhost", HTTPClient: &http.Client{Transport: local{o.API}}},
		sampler: newSampler(o.Fleet), pages: pages, streams: make(chan struct{}, mostStreams),
		unguarded: o.Unguarded, log: o.Log,
	}
	c.mux = c.routes()
	return c, nil
}

// Run looks at the fleet every few seconds, for the plots. It blocks until ctx
// ends, and returns nil then.
func (c *Console) Run(ctx context.Context) error { return c.sampler.run(ctx) }

// ServeHTTP answers a request below /console.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	c.mux.ServeHTTP(w, r.WithContext(withVisitor(r.Context(), r)))
}

func (c *Console) routes() *http.ServeMux {
	mux := http.NewServeMux()
	static, _ := fs.Sub(files, "assets") // the name is a good one
	mux.Handle("GET /console/assets/", http.StripPrefix("/console/assets/", cached(http.FileServerFS(static))))
	for pattern, show := range map[string]shower{
		"GET /console":                                      c.overview,
		"GET /console/tasks":                                c.tasks,
		"GET /console/tasks/{id}":                           c.task,
		"GET /console/tasks/{id}/again":                     c.again,
		"POST /console/tasks/{id}/again":                    c.runAgain,
		"POST /console/tasks/{id}/{verb}":                   c.steerTask,
		"GET /console/submit":                               c.choose,
		"GET /console/submit/{name}":                        c.form,
		"POST /console/submit/{name}":                       c.submit,
		"GET /console/queues":                               c.queues,
		"POST /console/queues/{queue}/{verb}":               c.steerQueue,
		"GET /console/dead":                                 c.dead,
		"GET /console/dead/{queue}":                         c.deadQueue,
		"POST /console/dead/{queue}/{verb}":                 c.deal,
		"GET /console/dead/{queue}/letters/{id}":            c.letter,
		"POST /console/dead/{queue}/letters/{id}":           c.sendLetter,
		"GET /console/dead/{queue}/operations/{id}":         c.operation,
		"POST /console/dead/{queue}/operations/{id}/cancel": c.cancelOperation,
		"GET /console/queues/{queue}/purge":                 c.purge,
		"GET /console/workers/{worker}":                     c.worker,
		"POST /console/workers/{worker}/{verb}":             c.steerWorker,
		"GET /console/workers":                              c.workers,
		"GET /console/catalog":                              c.catalog,
		"GET /console/audit":                                c.audit,
		"/console/":                                         c.missing,
	} {
		mux.Handle(pattern, c.page(show))
	}
	mux.HandleFunc("GET /console/banner", c.banner)
	mux.HandleFunc("GET /console/tasks/{id}/live", c.follow)
	mux.HandleFunc("GET /console/tasks/{id}/log", c.taskLog)
	return mux
}

// cached lets a browser keep what it asks for with the fingerprint.
func cached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		next.ServeHTTP(w, r)
	})
}

// fingerprint changes with every asset.
func fingerprint(files fs.FS) (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(files, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		sum.Write(content)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:6]), err
}
