package docs

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func ask(t *testing.T, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil))
	return w
}

func TestPageHasAllItNeedsOnBoard(t *testing.T) {
	t.Parallel()
	page := ask(t, "/docs")
	require.Equal(t, http.StatusOK, page.Code)
	require.Equal(t, page.Body.String(), ask(t, "/docs/").Body.String())
	require.Contains(t, page.Header().Get("Content-Type"), "text/html")
	references := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page.Body.String(), -1)
	require.NotEmpty(t, references)
	for _, r := range references {
		if r[1] == "/openapi.json" {
			continue
		}
		require.True(t, strings.HasPrefix(r[1], "/docs/assets/"), r[1])
		require.Equal(t, http.StatusOK, ask(t, r[1]).Code, r[1])
	}
	require.NotContains(t, page.Body.String(), "<script>", "the policy allows no inline script")
}

func TestPolicyAllowsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/docs", "/docs/assets/page.js"} {
		h := ask(t, target).Header()
		require.Equal(t, "no-referrer", h.Get("Referrer-Policy"))
		require.Equal(t, "same-origin", h.Get("Cross-Origin-Opener-Policy"))
		csp := h.Get("Content-Security-Policy")
		require.Contains(t, csp, "default-src 'none'")
		require.Contains(t, csp, "script-src 'self';")
		require.NotContains(t, csp, "http")
		require.NotContains(t, csp, "unsafe")
	}
}

func TestNothingElseIsServed(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/docs/docs.go", "/docs/index.html", "/docs/assets", "/docs/assets/", "/docs/assets/../docs.go", "/docs/LICENSE"} {
		require.Equal(t, http.StatusNotFound, ask(t, target).Code, target)
	}
}

func TestScriptIsSentCompressedToWhoeverTakesIt(t *testing.T) {
	t.Parallel()
	for target, kind := range map[string]string{"/docs/assets/swagger-ui-bundle.js": "text/javascript", "/docs/assets/swagger-ui.css": "text/css"} {
		plain := ask(t, target)
		require.Empty(t, plain.Header().Get("Content-Encoding"))
		require.Contains(t, plain.Header().Get("Content-Type"), kind)

		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
		r.Header.Set("Accept-Encoding", "gzip, deflate, br")
		packed := httptest.NewRecorder()
		Handler(http.NotFoundHandler()).ServeHTTP(packed, r)
		require.Equal(t, "gzip", packed.Header().Get("Content-Encoding"))
		require.Contains(t, packed.Header().Get("Content-Type"), kind)
		require.Contains(t, packed.Header().Get("Content-Security-Policy"), "default-src 'none'")
		require.Less(t, packed.Body.Len(), plain.Body.Len()/3)
		unpacked, err := gzip.NewReader(packed.Body)
		require.NoError(t, err)
		text, err := io.ReadAll(unpacked)
		require.NoError(t, err)
		require.Equal(t, plain.Body.String(), string(text))
	}
}

func TestLicenceAndVersionAreThere(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"LICENSE", "NOTICE", "README.md", "assets/swagger-ui-bundle.js.LICENSE.txt"} {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NotEmpty(t, content)
	}
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	version := regexp.MustCompile("`swagger-ui-dist` ([0-9.]+)").FindSubmatch(readme)
	require.NotNil(t, version)
	require.Contains(t, ask(t, "/docs/assets/swagger-ui-bundle.js").Body.String(), string(version[1]), "the version that the README names is the one on board")
}
