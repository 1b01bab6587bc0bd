package outbound

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSameSite(t *testing.T) {
	t.Parallel()
	tests := []struct {
		first, next string
		want        bool
	}{
		{"http://a/", "http://a/b", true},
		{"http://a/", "http://a:80/b", true},
		{"https://a:443/", "https://a/b", true},
		{"http://a/", "https://a/", true},
		{"https://a/", "http://a/", false},
		{"http://a/", "http://a:8080/", false},
		{"http://a:8080/", "https://a/", false},
		{"http://a/", "https://a:8443/", false},
		{"http://a/", "http://b/", false},
		{"http://a.com/", "http://sub.a.com/", false},
	}
	for _, tt := range tests {
		first, err := url.Parse(tt.first)
		require.NoError(t, err)
		next, err := url.Parse(tt.next)
		require.NoError(t, err)
		require.Equal(t, tt.want, sameSite(first, next), "%s to %s", tt.first, tt.next)
	}
}
