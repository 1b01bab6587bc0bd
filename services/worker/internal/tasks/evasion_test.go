package tasks

import (
	"bytes"
	"encoding/base64"
	"image/png"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// The ways in which others were made to call what they should not. Each is tried
// on both tasks that call an address, which allow some names, and of the addresses
// of this machine one where nobody listens; whatever comes of it, the server on
// the other one is not called.
func TestEvasionsReachNothing(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	_, here := serve(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	_, port, err := net.SplitHostPort(here)
	require.NoError(t, err)
	names := &nameServer{answers: map[string][][]string{
		"api.test.":      {{"127.0.0.1"}},
		"mixed.test.":    {{"127.0.0.1", "127.0.0.3"}},
		"rebind.test.":   {{"127.0.0.3"}, {"127.0.0.1"}},
		"metadata.test.": {{"169.254.169.254"}},
	}}
	config := Config{HTTPAllow: []string{"api.test", "mixed.test", "rebind.test", "metadata.test", "127.0.0.3"}, Resolver: names.resolver(t)}
	requester, thumbnail := newTestRequester(t, config), newTestThumbnailer(t, config)
	for name, address := range map[string]string{
		"loopback":                  "http://127.0.0.1:PORT/",
		"another loopback":          "http://127.9.9.9:PORT/",
		"short form":                "http://127.1:PORT/",
		"decimal":                   "http://2130706433:PORT/",
		"octal":                     "http://0177.0.0.1:PORT/",
		"octal of every part":       "http://0177.00.00.01:PORT/",
		"hexadecimal":               "http://0x7f000001:PORT/",
		"hexadecimal of every part": "http://0x7f.0x0.0x0.0x1:PORT/",
		"too large a decimal":       "http://6425673729:PORT/",
		"unspecified":               "http://0.0.0.0:PORT/",
		"zero":                      "http://0:PORT/",
		"IPv6 loopback":             "http://[::1]:PORT/",
		"IPv6 unspecified":          "http://[::]:PORT/",
		"IPv6-mapped":               "http://[::ffff:127.0.0.1]:PORT/",
		"IPv6-mapped, hexadecimal":  "http://[::ffff:7f00:1]:PORT/",
		"IPv4-compatible":           "http://[::127.0.0.1]:PORT/",
		"NAT64":                     "http://[64:ff9b::7f00:1]:PORT/",
		"6to4":                      "http://[2002:7f00:1::]:PORT/",
		"IPv6 with a zone":          "http://[::1%25lo]:PORT/",
		"full-width digits":         "http://１２７.0.0.1:PORT/",
		"circled digits":            "http://①②⑦.⓪.⓪.①:PORT/",
		"ideographic full stops":    "http://127。0。0。1:PORT/",
		"localhost":                 "http://localhost:PORT/",
		"localhost with a dot":      "http://localhost.:PORT/",
		"below localhost":           "http://x.localhost:PORT/",
		"name to a private address": "http://api.test:PORT/",
		"the same with a dot":       "http://api.test.:PORT/",
		"the same in capitals":      "http://API.TEST:PORT/",
		"one address of two":        "http://mixed.test:PORT/",
		"rebinding":                 "http://rebind.test:PORT/",
		"metadata by its address":   "http://169.254.169.254/latest/meta-data/",
		"metadata by a name":        "http://metadata.test/latest/meta-data/",
		"metadata over IPv6":        "http://[fd00:ec2::254]/latest/meta-data/",
		"metadata of Google":        "http://metadata.google.internal/computeMetadata/v1/",
		"allowed name as user":      "http://api.test@127.0.0.1:PORT/",
		"allowed name as password":  "http://x:api.test@127.0.0.1:PORT/",
		"user of an allowed name":   "http://user:pw@api.test:PORT/",
		"backslash":                 "http://api.test\\@127.0.0.1:PORT/",
		"escaped at sign":           "http://api.test%40127.0.0.1:PORT/",
		"fragment before the host":  "http://127.0.0.1:PORT#@api.test/",
		"query before the host":     "http://127.0.0.1:PORT?@api.test/",
		"two ports":                 "http://127.0.0.1:PORT:80/",
		"port that is a word":       "http://127.0.0.1:http/",
		"port out of range":         "http://api.test:99999/",
		"a service of this machine": "http://127.0.0.1:6379/",
		"other scheme":              "gopher://127.0.0.1:PORT/",
		"file":                      "file:///etc/passwd",
		"no scheme":                 "//127.0.0.1:PORT/",
		"line break in the host":    "http://api.test\r\nHost: 127.0.0.1:PORT/",
		"white space before it":     " http://127.0.0.1:PORT/",
		"escaped line break":        "http://127.0.0.1:PORT/%0d%0aX: y",
	} {
		address = strings.ReplaceAll(address, "PORT", port)
		for range 3 { // a name server may answer differently the next time
			_, err := get(t, requester, address)
			require.Error(t, err, name)
			_, err = thumbnail.run(t.Context(), thumbnailIn{URL: address, Width: 1, Height: 1})
			require.Error(t, err, name)
		}
	}
	require.Zero(t, calls.Load())
}

func FuzzThumbnail(f *testing.F) {
	var small bytes.Buffer
	require.NoError(f, png.Encode(&small, photo(8, 4)))
	f.Add(small.Bytes())
	f.Add([]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"))
	f.Add([]byte("RIFF\x00\x00\x00\x00WEBPVP8 "))
	f.Add([]byte("\xff\xd8\xff\xe0\x00\x10JFIF"))
	f.Fuzz(func(t *testing.T, file []byte) {
		thumbnail := newTestThumbnailer(t, Config{MaxPixels: 1 << 16}) // more take their time
		// It makes an image or says why not, whatever the file is.
		out, err := thumbnail.run(t.Context(), thumbnailIn{ImageBase64: base64.StdEncoding.EncodeToString(file), Width: 4, Height: 4, Format: "png"})
		if err == nil {
			require.Positive(t, out.Bytes)
		}
	})
}
