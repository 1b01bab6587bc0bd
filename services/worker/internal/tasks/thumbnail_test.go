package tasks

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/image/draw"

	"github.com/lovage-mq/lovage/internal/outbound"
	"github.com/lovage-mq/lovage/pkg/worker"
)

func newTestThumbnailer(t *testing.T, c Config) *thumbnailer {
	t.Helper()
	c = c.withDefaults()
	allow, err := outbound.ParseAllowList("LOVAGE_HTTP_ALLOW", c.HTTPAllow)
	require.NoError(t, err)
	client := outbound.NewClient(allow, c.Resolver)
	t.Cleanup(client.CloseIdleConnections)
	return newThumbnailer(c, allow, client)
}

// photo is an image in which neighbours differ little.
func photo(width, height int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			img.SetNRGBA(x, y, color.NRGBA{R: uint8(x * 255 / width), G: uint8(y * 255 / height), B: 100, A: 255})
		}
	}
	return img
}

func pngFile(t *testing.T, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, img))
	return b.Bytes()
}

// pngHeader is the beginning of a PNG that claims a size.
func pngHeader(width, height uint32) []byte {
	chunk := append([]byte("IHDR"), 0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0)
	binary.BigEndian.PutUint32(chunk[4:], width)
	binary.BigEndian.PutUint32(chunk[8:], height)
	file := append([]byte("\x89PNG\r\n\x1a\n"), 0, 0, 0, 13)
	file = append(file, chunk...)
	return binary.BigEndian.AppendUint32(file, crc32.ChecksumIEEE(chunk))
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func box(file []byte, width, height int) thumbnailIn {
	return thumbnailIn{ImageBase64: base64.StdEncoding.EncodeToString(file), Width: width, Height: height, Format: "png", Quality: 85}
}

// decoded checks what a thumbnail says about itself and returns its image.
func decoded(t *testing.T, out thumbnailOut) image.Image {
	t.Helper()
	file, err := base64.StdEncoding.DecodeString(out.ImageBase64)
	require.NoError(t, err)
	require.Len(t, file, out.Bytes)
	img, format, err := image.Decode(bytes.NewReader(file))
	require.NoError(t, err)
	require.Equal(t, out.Format, format)
	require.Equal(t, image.Pt(out.Width, out.Height), img.Bounds().Size())
	return img
}

func TestThumbnailReadsEveryFormat(t *testing.T) {
	t.Parallel()
	var asJPEG, asGIF bytes.Buffer
	require.NoError(t, jpeg.Encode(&asJPEG, photo(64, 32), nil))
	require.NoError(t, gif.Encode(&asGIF, photo(64, 32), nil))
	webp, err := base64.StdEncoding.DecodeString("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA")
	require.NoError(t, err)
	tests := map[string]struct {
		file []byte
		want image.Point
	}{
		"png":  {pngFile(t, photo(64, 32)), image.Pt(16, 8)},
		"jpeg": {asJPEG.Bytes(), image.Pt(16, 8)},
		"gif":  {asGIF.Bytes(), image.Pt(16, 8)},
		"webp": {webp, image.Pt(1, 1)},
	}
	for name, tt := range tests {
		for _, format := range []string{"png", "jpeg"} {
			t.Run(name+" to "+format, func(t *testing.T) {
				t.Parallel()
				in := box(tt.file, 16, 16)
				in.Format = format
				out, err := newTestThumbnailer(t, Config{}).run(t.Context(), in)
				require.NoError(t, err)
				require.Equal(t, tt.want, decoded(t, out).Bounds().Size())
			})
		}
	}
}

func TestThumbnailLooksLikeItsSource(t *testing.T) {
	t.Parallel()
	out, err := newTestThumbnailer(t, Config{}).run(t.Context(), box(pngFile(t, photo(300, 300)), 100, 100))
	require.NoError(t, err)
	requireSimilar(t, photo(100, 100), decoded(t, out), 4)
}

func TestBothWaysOfScalingAgree(t *testing.T) {
	t.Parallel()
	source := photo(1400, 1000)
	size := fit(source.Bounds().Size(), 1200, 1200)
	require.Greater(t, size.X*1000, maxScratch, "goes band by band")
	banded, err := scale(t.Context(), source, size)
	require.NoError(t, err)
	whole := image.NewRGBA(image.Rectangle{Max: size})
	draw.CatmullRom.Scale(whole, whole.Rect, source, source.Rect, draw.Src, nil)
	requireSimilar(t, whole, banded, 1)
}

func requireSimilar(t *testing.T, want, got image.Image, tolerance float64) {
	t.Helper()
	require.Equal(t, want.Bounds().Size(), got.Bounds().Size())
	worst := 0.0
	for y := range want.Bounds().Dy() {
		for x := range want.Bounds().Dx() {
			r, g, b, a := want.At(x, y).RGBA()
			r2, g2, b2, a2 := got.At(x, y).RGBA()
			for _, pair := range [][2]uint32{{r, r2}, {g, g2}, {b, b2}, {a, a2}} {
				worst = max(worst, math.Abs(float64(pair[0])-float64(pair[1]))/257)
			}
		}
	}
	require.LessOrEqual(t, worst, tolerance, "the colours of a pixel, of 255")
}

func TestTransparencyBecomesWhiteInAJPEG(t *testing.T) {
	t.Parallel()
	in := box(pngFile(t, image.NewNRGBA(image.Rect(0, 0, 40, 40))), 10, 10)
	out, err := newTestThumbnailer(t, Config{}).run(t.Context(), in)
	require.NoError(t, err)
	_, _, _, alpha := decoded(t, out).At(5, 5).RGBA()
	require.Zero(t, alpha, "stays in a PNG")

	in.Format = "jpeg"
	out, err = newTestThumbnailer(t, Config{}).run(t.Context(), in)
	require.NoError(t, err)
	r, g, b, _ := decoded(t, out).At(5, 5).RGBA()
	require.Equal(t, [3]uint32{0xffff, 0xffff, 0xffff}, [3]uint32{r, g, b})
}

func TestQualityCounts(t *testing.T) {
	t.Parallel()
	in := box(pngFile(t, photo(200, 200)), 200, 200)
	in.Format = "jpeg"
	size := map[int]int{}
	for _, quality := range []int{1, 100} {
		in.Quality = quality
		out, err := newTestThumbnailer(t, Config{}).run(t.Context(), in)
		require.NoError(t, err)
		size[quality] = out.Bytes
	}
	require.Less(t, size[1], size[100])
}

// Whatever the image and the box: the result is inside of both, touches one of
// them, and has the proportions of the image as far as whole pixels can.
func TestThumbnailFits(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // reproducible on purpose
	side := func() int { return 1 + int(math.Exp(random.Float64()*math.Log(20_000))) }
	for range 100_000 {
		source, width, height := image.Pt(side(), side()), 1+random.IntN(4096), 1+random.IntN(4096)
		got := fit(source, width, height)
		require.True(t, got.X >= 1 && got.X <= min(width, source.X), "%v into %d × %d: %v", source, width, height, got)
		require.True(t, got.Y >= 1 && got.Y <= min(height, source.Y), "%v into %d × %d: %v", source, width, height, got)
		require.True(t, got == source || got.X == width || got.Y == height, "%v into %d × %d: %v", source, width, height, got)
		ratio := min(1, float64(width)/float64(source.X), float64(height)/float64(source.Y))
		require.InDelta(t, max(1, float64(source.X)*ratio), float64(got.X), 0.5001)
		require.InDelta(t, max(1, float64(source.Y)*ratio), float64(got.Y), 0.5001)
	}
}

func TestThumbnailOfRealImagesFits(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6)) //nolint:gosec // reproducible on purpose
	thumbnail := newTestThumbnailer(t, Config{})
	for range 30 {
		source := image.NewGray(image.Rect(0, 0, 1+random.IntN(200), 1+random.IntN(200)))
		in := box(pngFile(t, source), 1+random.IntN(100), 1+random.IntN(100))
		out, err := thumbnail.run(t.Context(), in)
		require.NoError(t, err)
		require.Equal(t, fit(source.Rect.Size(), in.Width, in.Height), decoded(t, out).Bounds().Size())
	}
}

func TestBadImagesFailForGood(t *testing.T) {
	t.Parallel()
	good := pngFile(t, photo(64, 64))
	broken := bytes.Clone(good)
	broken[len(broken)/2] ^= 0xff
	tests := map[string]struct {
		in   thumbnailIn
		says string
	}{
		"no image":         {box([]byte("hello"), 8, 8), "neither PNG, JPEG, GIF nor WebP"},
		"half an image":    {box(good[:len(good)/2], 8, 8), "broken png"},
		"broken image":     {box(broken, 8, 8), "broken png"},
		"header only":      {box(good[:10], 8, 8), "broken png"},
		"bomb":             {box(pngHeader(60_000, 60_000), 8, 8), "60000 × 60000 is more than 50000000 pixels"},
		"larger bomb":      {box(pngHeader(math.MaxInt32, math.MaxInt32), 8, 8), "broken png"},
		"wide bomb":        {box(pngHeader(50_000_001, 1), 8, 8), "is more than 50000000 pixels"},
		"claims too much":  {box(pngHeader(7000, 7000), 8, 8), "broken png"},
		"no base64":        {thumbnailIn{ImageBase64: "%%%", Width: 8, Height: 8}, "image_base64: illegal base64"},
		"nothing":          {thumbnailIn{Width: 8, Height: 8}, "exactly one of url and image_base64"},
		"both":             {thumbnailIn{URL: "http://a", ImageBase64: "AA==", Width: 8, Height: 8}, "exactly one of url and image_base64"},
		"host not allowed": {thumbnailIn{URL: "http://a", Width: 8, Height: 8}, "LOVAGE_HTTP_ALLOW"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newTestThumbnailer(t, Config{}).run(t.Context(), tt.in)
			requirePermanent(t, err)
			require.ErrorContains(t, err, tt.says)
		})
	}
}

func TestThumbnailLimits(t *testing.T) {
	t.Parallel()
	file := pngFile(t, photo(64, 64))

	_, err := newTestThumbnailer(t, Config{MaxImage: int64(len(file)) - 3}).run(t.Context(), box(file, 8, 8))
	requirePermanent(t, err)
	require.ErrorContains(t, err, "image_base64: has more than")

	_, err = newTestThumbnailer(t, Config{MaxImage: int64(len(file))}).run(t.Context(), box(file, 8, 8))
	require.NoError(t, err)

	_, err = newTestThumbnailer(t, Config{MaxPixels: 64*64 - 1}).run(t.Context(), box(file, 8, 8))
	requirePermanent(t, err)

	_, err = newTestThumbnailer(t, Config{MaxPixels: 64 * 64}).run(t.Context(), box(file, 8, 8))
	require.NoError(t, err)

	_, err = newTestThumbnailer(t, Config{MaxThumbnail: 100}).run(t.Context(), box(file, 64, 64))
	requirePermanent(t, err)
	require.ErrorContains(t, err, "too large a file")
}

func TestThumbnailEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := shrink(ctx, pngFile(t, photo(64, 64)), 8, 8)
	require.ErrorIs(t, err, context.Canceled)
	requireTemporary(t, err)

	source := image.NewGray(image.Rect(0, 0, 2000, 2000))
	_, err = scale(ctx, source, image.Pt(1000, 1000))
	require.ErrorIs(t, err, context.Canceled)
}

// Ten tasks at once must not need ten times the memory.
func TestImagesWaitForMemory(t *testing.T) {
	t.Parallel()
	thumbnail := newTestThumbnailer(t, Config{MaxPixels: 64 * 64})
	require.NoError(t, thumbnail.pixels.Acquire(t.Context(), 1))
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	in := box(pngFile(t, photo(64, 64)), 8, 8)
	go func() {
		_, err := thumbnail.run(ctx, in)
		failed <- err
	}()
	cancel()
	err := <-failed
	require.ErrorIs(t, err, context.Canceled)
	requireTemporary(t, err)

	thumbnail.pixels.Release(1)
	for range 2 {
		_, err := thumbnail.run(t.Context(), in)
		require.NoError(t, err, "what was taken is given back")
	}
}

func TestThumbnailOfAURL(t *testing.T) {
	t.Parallel()
	file := pngFile(t, photo(64, 32))
	base, host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/busy":
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusTooManyRequests)
		case "/gone":
			w.WriteHeader(http.StatusGone)
		case "/elsewhere":
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
		default:
			_, _ = w.Write(file)
		}
	})
	thumbnail := newTestThumbnailer(t, Config{HTTPAllow: []string{host}})
	call := func(path string) (thumbnailOut, error) {
		return thumbnail.run(t.Context(), thumbnailIn{URL: base + path, Width: 16, Height: 16, Format: "png"})
	}

	out, err := call("/image.png")
	require.NoError(t, err)
	require.Equal(t, image.Pt(16, 8), decoded(t, out).Bounds().Size())

	_, err = call("/busy")
	var retry *worker.RetryError
	require.ErrorAs(t, err, &retry)

	_, err = call("/gone")
	requirePermanent(t, err)
	_, err = call("/elsewhere")
	requirePermanent(t, err)

	thumbnail.maxImage = int64(len(file)) - 1
	_, err = call("/image.png")
	requirePermanent(t, err)
	require.ErrorContains(t, err, "more than")
}
