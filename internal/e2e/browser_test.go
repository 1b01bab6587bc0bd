package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// screenshots is where tests leave what they have seen, for a person to look at.
const screenshots = "../../.cache/screenshots"

// browser is a tab of a browser that shows the console of a stack. What its pages
// complain about fails the test, as a breach of their policy does.
type browser struct {
	t      testing.TB
	ctx    context.Context //nolint:containedctx // chromedp keeps its browser there
	base   string
	clicks int

	mu         sync.Mutex
	complaints []string
	// expected are those that belong to the test.
	expected *regexp.Regexp
}

func newBrowser(tb testing.TB, s *stack) *browser {
	tb.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.WSURLReadTimeout(patience))
	ctx, stop := chromedp.NewExecAllocator(context.WithoutCancel(tb.Context()), options...)
	ctx, end := chromedp.NewContext(ctx)
	b := &browser{t: tb, ctx: ctx, base: s.url}
	tb.Cleanup(func() {
		if tb.Failed() {
			b.shot("failed-" + strings.ReplaceAll(tb.Name(), "/", "-"))
		}
		_ = chromedp.Cancel(ctx) // it is ended in any case
		end()
		stop()
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.complaints) > 0 {
			tb.Errorf("the pages complain: %q", b.complaints)
		}
	})
	require.NoError(tb, chromedp.Listen(ctx, b.listen))
	b.size(1280, 900)
	return b
}

// listen gathers what a developer would see in the browser's console.
func (b *browser) listen(event any) {
	complaint := ""
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			complaint = "console:"
			for _, a := range e.Args {
				complaint += " " + string(a.Value) + a.Description
			}
		}
	case *runtime.EventExceptionThrown:
		complaint = "exception: " + e.ExceptionDetails.Text
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			complaint = "log: " + e.Entry.Text + " " + e.Entry.URL
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if complaint != "" && (b.expected == nil || !b.expected.MatchString(complaint)) {
		b.complaints = append(b.complaints, complaint)
	}
}

func (b *browser) expect(complaints string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = regexp.MustCompile(complaints)
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	require.NoError(b.t, chromedp.Do(ctx, actions...))
}

// evaluate asks the page. A page that is just being left is asked again.
func evaluate[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
		if err != nil && ctx.Err() == nil && leaving.MatchString(err.Error()) {
			continue
		}
		require.NoError(b.t, err, expression)
		return v
	}
}

// leaving are the errors of a page that is just being left.
var leaving = regexp.MustCompile("navigated or closed|Cannot find context|context was destroyed")

func (b *browser) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base + path))
}

func (b *browser) size(width, height int64) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height))
}

// dark makes the browser prefer dark pages, or light ones.
func (b *browser) dark(is bool) {
	b.t.Helper()
	scheme := &emulation.MediaFeature{Name: "prefers-color-scheme", Value: "light"}
	if is {
		scheme.Value = "dark"
	}
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{scheme}})
		return err
	}))
}

// path is where the browser is.
func (b *browser) path() string {
	b.t.Helper()
	return evaluate[string](b, "location.pathname + location.search")
}

// text is what the page says at the first element that matches, empty when there
// is none.
func (b *browser) text(selector string) string {
	b.t.Helper()
	return evaluate[string](b, fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector))
}

// sees waits until the page says a text.
func (b *browser) sees(selector, text string) {
	b.t.Helper()
	b.until(func() (bool, string) {
		said := b.text(selector)
		return strings.Contains(said, text), fmt.Sprintf("%s says %q, and not %q", selector, said, text)
	})
}

func (b *browser) seesNot(selector, text string) {
	b.t.Helper()
	b.until(func() (bool, string) {
		said := b.text(selector)
		return !strings.Contains(said, text), fmt.Sprintf("%s says %q", selector, said)
	})
}

func (b *browser) at(path string) {
	b.t.Helper()
	b.until(func() (bool, string) {
		is := b.path()
		return strings.HasPrefix(is, path), fmt.Sprintf("at %s, and not at %s", is, path)
	})
}

// until waits for a condition, which says what is instead.
func (b *browser) until(condition func() (bool, string)) {
	b.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		is, instead := condition()
		if is {
			return
		}
		if time.Now().After(end) {
			require.FailNow(b.t, instead)
		}
	}
}

// click clicks in the middle of the first element that matches and says a text,
// with the mouse.
func (b *browser) click(selector, text string) {
	b.t.Helper()
	find := fmt.Sprintf(`(() => {
		const e = [...document.querySelectorAll(%q)].find((e) => e.innerText.includes(%q));
		if (!e || document.readyState !== 'complete') return []; // it may still move
		e.scrollIntoView({ block: 'nearest' });
		const r = e.getClientRects()[0];
		return [r.x + r.width / 2, r.y + r.height / 2];
	})()`, selector, text)
	var at []float64
	require.Eventually(b.t, func() bool {
		at = evaluate[[]float64](b, find)
		return len(at) == 2
	}, patience, 50*time.Millisecond, "there is no %s that says %q", selector, text)
	b.do(chromedp.MouseClickXY(at[0], at[1]))
	b.clicks++
}

// enter types into the field that has the focus, in place of what is there.
func (b *browser) enter(text string) {
	b.t.Helper()
	evaluate[any](b, "document.activeElement.select?.()")
	b.do(chromedp.KeyEvent(text))
}

// focus is the id of what has the focus.
func (b *browser) focus() string {
	b.t.Helper()
	return evaluate[string](b, "document.activeElement.id")
}

// tabTo goes to what says a text, as somebody without a mouse does, and sees that
// it is shown where one is.
func (b *browser) tabTo(text string) {
	b.t.Helper()
	const most = 60
	for range most {
		b.press(kb.Tab)
		if evaluate[string](b, "document.activeElement.innerText ?? ''") == text ||
			strings.HasPrefix(evaluate[string](b, "document.activeElement.innerText ?? ''"), text+" ") {
			require.NotEqual(b.t, "none", evaluate[string](b, "getComputedStyle(document.activeElement).outlineStyle"), text)
			return
		}
	}
	require.FailNow(b.t, "nothing says so", text)
}

// mark marks the document, so that a reload can be told.
func (b *browser) mark() {
	b.t.Helper()
	evaluate[any](b, "window.marked = true")
}

func (b *browser) sameDocument() {
	b.t.Helper()
	require.True(b.t, evaluate[bool](b, "window.marked === true"), "the page was loaded again")
}

func (b *browser) visible(selector string) bool {
	b.t.Helper()
	return evaluate[bool](b, fmt.Sprintf("(document.querySelector(%q)?.getClientRects().length ?? 0) > 0", selector))
}

// gone waits until nothing matches.
func (b *browser) gone(selector string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return !b.visible(selector) }, patience, 50*time.Millisecond, selector)
}

// press presses keys one after the other.
func (b *browser) press(keys ...string) {
	b.t.Helper()
	for _, k := range keys {
		b.do(chromedp.KeyEvent(k))
	}
}

// shot leaves a picture of what is to be seen.
func (b *browser) shot(name string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Logf("no picture of %s: %v", name, err)
		return
	}
	if err := os.MkdirAll(screenshots, 0o755); err == nil {
		err = os.WriteFile(filepath.Join(screenshots, name+".png"), png, 0o644)
		if err != nil {
			b.t.Logf("no picture of %s: %v", name, err)
		}
	}
}
