package console

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	template "github.com/DataDog/datadog-agent/pkg/template/html"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/client"
)

// shower makes a page. An error is shown in its place, as far as it says which
// page that is.
type shower func(ctx context.Context, r *http.Request) (*view, error)

// view is what a page is made from.
type view struct {
	// name is that of the template, and part the only part of it that is asked
	// for, empty for the whole page.
	name, part string
	// Title names the page, Section the entry of the navigation.
	Title, Section string
	// Self is where the page is, to be asked for again.
	Self string
	// Data is the page's own.
	Data any
	// Trouble takes the place of what could not be read.
	Trouble *trouble
	// Notice says what was just done, and Refusal why it was not.
	Notice  string
	Refusal *trouble
	// Visitor is who looks at it, nil where nobody has to show a key.
	Visitor *access.Grant
	// Unguarded says that they have not although others reach the address.
	Unguarded bool
	// Health is how the gateway is.
	Health *client.Health
	// Version is that of the assets.
	Version string

	status int
	// redirect is where the browser goes instead.
	redirect string
	// location is shown by the browser instead of what it asked for.
	location string
}

// May reports whether the visitor's key has a scope. What it has none for is not
// offered; it is the API that refuses it.
func (v *view) May(s access.Scope) bool { return v.Visitor == nil || v.Visitor.Has(s) }

// visitor is who shows a key, nil when nobody has to.
func visitor(ctx context.Context) *access.Grant {
	if g := access.From(ctx); g != nil && g.KeyID != "" {
		return g
	}
	return nil
}

// pages are the templates by name.
type pages struct {
	byName  map[string]*template.Template
	version string
}

func parsePages(version string) (*pages, error) {
	layout, err := template.New("layout.html").Funcs(functions()).ParseFS(files, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	p := &pages{byName: map[string]*template.Template{}, version: version}
	for _, name := range names {
		t, err := layout.Clone()
		if err == nil {
			t, err = t.ParseFS(files, name)
		}
		if err != nil {
			return nil, err
		}
		p.byName[strings.TrimSuffix(path.Base(name), ".html")] = t
	}
	return p, nil
}

// page serves what show makes.
func (c *Console) page(show shower) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		v, err := show(ctx, r)
		if v == nil {
			v = &view{name: "trouble", Title: "Something is wrong"}
		}
		if err != nil {
			v.Trouble = newTrouble(err)
			v.status = v.Trouble.Status
		}
		c.write(ctx, w, r, v)
	})
}

// refuse shows a page as it is, and why what was asked for on it is not done.
// That stays while the page is asked for again.
func (c *Console) refuse(ctx context.Context, r *http.Request, show shower, err error) (*view, error) {
	v, broken := show(ctx, r)
	if broken != nil {
		return v, err
	}
	v.Refusal = newTrouble(err)
	v.status = v.Refusal.Status
	return v, nil
}

func (c *Console) write(ctx context.Context, w http.ResponseWriter, r *http.Request, v *view) {
	if v.redirect != "" {
		http.Redirect(w, r, v.redirect, http.StatusSeeOther)
		return
	}
	v.Version, v.Visitor = c.pages.version, visitor(ctx)
	if v.Self == "" {
		v.Self = r.URL.RequestURI()
	}
	v.Notice = notices[r.URL.Query().Get("did")]
	block := "layout.html"
	switch {
	case v.part != "":
		block = v.part
	case r.Header.Get("HX-Request") == "true" && r.Header.Get("HX-Boosted") == "":
		block = "live"
	}
	if block == "layout.html" {
		v.Unguarded = c.unguarded
		v.Health, _ = c.client.Ready(ctx) // without an answer there is no banner
	} else {
		v.status = http.StatusOK // htmx shows nothing else, and the part says what is wrong
	}
	if v.location != "" {
		w.Header().Set("HX-Replace-Url", v.location)
	}
	c.render(w, v, block)
}

func (c *Console) render(w http.ResponseWriter, v *view, block string) {
	var body bytes.Buffer
	if err := c.pages.byName[v.name].ExecuteTemplate(&body, block, v); err != nil {
		c.log.Error("page not rendered", zap.String("page", v.name), zap.Error(err))
		http.Error(w, "This page could not be made; the log of the gateway says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(max(v.status, http.StatusOK))
	_, _ = w.Write(body.Bytes()) // a browser that is gone sees nothing more
}

// banner is asked for again and again.
func (c *Console) banner(w http.ResponseWriter, r *http.Request) {
	v := &view{name: "trouble"}
	v.Health, _ = c.client.Ready(r.Context()) // without an answer there is no banner
	c.render(w, v, "banner")
}

func (c *Console) missing(_ context.Context, _ *http.Request) (*view, error) {
	return nil, &client.Problem{Status: http.StatusNotFound, Title: "No such page", Detail: "The pages of the console are in the navigation above."}
}

// trouble is an error as a person reads it.
type trouble struct {
	Status        int
	Title, Detail string
	// Wait says that it may pass by itself.
	Wait   bool
	Errors []client.FieldError
}

func newTrouble(err error) *trouble {
	if p, ok := errors.AsType[*client.Problem](err); ok {
		t := &trouble{Status: p.Status, Title: p.Title, Detail: p.Detail, Wait: p.Retryable, Errors: p.Errors}
		switch p.Slug() {
		case "store-unavailable", "catalog-unavailable":
			t.Title = "Redis does not answer"
			t.Detail = "What tasks there are and how they are is not known before it does. Tasks that were accepted are safe in RabbitMQ."
		case "forbidden":
			t.Title = "Your key is not for this"
		case "broker-unavailable":
			t.Title = "RabbitMQ does not answer"
			t.Detail = "Nothing was sent. Tasks that were accepted are safe, and it can be tried again when RabbitMQ is back."
		}
		return t
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &trouble{Status: http.StatusGatewayTimeout, Title: "This took too long", Detail: "It is given up after " + callTimeout.String() + ".", Wait: true}
	}
	return &trouble{Status: http.StatusInternalServerError, Title: "Something went wrong", Detail: err.Error()}
}

// is reports whether an error is the problem with this slug.
func is(err error, slug string) bool {
	p, ok := errors.AsType[*client.Problem](err)
	return ok && p.Slug() == slug
}

// notices say what was just done, by what the address says.
//
//nolint:gochecknoglobals // a table
var notices = map[string]string{
	"submit":    "Submitted: RabbitMQ has the task.",
	"cancel":    "Cancelled. A worker that runs the task is told to stop.",
	"retry":     "The task is queued again.",
	"again":     "The task is queued again, with the edited input.",
	"pause":     "Paused: within a second or two no worker takes anything from the queue.",
	"resume":    "Resumed.",
	"drain":     "Draining: the queue takes no new tasks, and its workers go on.",
	"purge":     "Revoked what waited.",
	"slots":     "The worker has so many slots now.",
	"stop":      "The worker takes nothing more, and ends when what it runs has.",
	"discard":   "Discarded.",
	"redrive":   "Sent again.",
	"operation": "Told to stop.",
}

const maxForm = 4 << 20

// back sends the browser to a page that says what was done.
func back(to, did string) *view {
	separator := "?"
	if strings.Contains(to, "?") {
		separator = "&"
	}
	return &view{redirect: to + separator + "did=" + did}
}

// now is a variable part of what is shown.
func now() time.Time { return time.Now() }
