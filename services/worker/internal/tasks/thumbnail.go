package tasks

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/lovage-mq/lovage/internal/outbound"
	"github.com/lovage-mq/lovage/pkg/worker"
)

const fetchTimeout = 60 * time.Second

type thumbnailIn struct {
	URL         string `json:"url,omitempty" jsonschema:"oneof_required=url,minLength=1,maxLength=8192,description=Where the image is; its host must be on the worker's LOVAGE_HTTP_ALLOW. Either this or image_base64."`
	ImageBase64 string `json:"image_base64,omitempty" jsonschema:"oneof_required=image_base64,minLength=1,description=The image itself. Either this or url."`
	Width       int    `json:"width" jsonschema:"minimum=1,maximum=4096,description=The width of the box to fit into."`
	Height      int    `json:"height" jsonschema:"minimum=1,maximum=4096,description=The height of the box to fit into."`
	Format      string `json:"format" jsonschema:"enum=png,enum=jpeg,default=png,description=The format to write."`
	Quality     int    `json:"quality" jsonschema:"minimum=1,maximum=100,default=85,description=The quality of a JPEG."`
}

type thumbnailOut struct {
	Format      string `json:"format" jsonschema:"enum=png,enum=jpeg"`
	Width       int    `json:"width"`
	Height      int    `json:"height"`
	Bytes       int    `json:"bytes" jsonschema:"description=The size of the file before base64."`
	ImageBase64 string `json:"image_base64"`
}

// thumbnailer is the task thumbnail.
type thumbnailer struct {
	allow        outbound.AllowList
	client       *http.Client
	maxImage     int64
	maxThumbnail int64
	maxPixels    int64
	// pixels is held by an image while it is decoded and scaled: however many
	// tasks run, their images together stay within the limit for one.
	pixels *semaphore.Weighted
}

func newThumbnailer(c Config, allow outbound.AllowList, client *http.Client) *thumbnailer {
	return &thumbnailer{
		allow: allow, client: client,
		maxImage: c.MaxImage, maxThumbnail: c.MaxThumbnail, maxPixels: c.MaxPixels,
		pixels: semaphore.NewWeighted(c.MaxPixels),
	}
}

func (t *thumbnailer) run(ctx context.Context, in thumbnailIn) (thumbnailOut, error) {
	file, err := t.read(ctx, in)
	if err != nil {
		return thumbnailOut{}, err
	}
	size, err := measure(file, t.maxPixels)
	if err != nil {
		return thumbnailOut{}, worker.Permanent(err)
	}
	weight := int64(size.X) * int64(size.Y)
	if err := t.pixels.Acquire(ctx, weight); err != nil {
		return thumbnailOut{}, fmt.Errorf("wait for memory: %w", err)
	}
	defer t.pixels.Release(weight)
	small, err := shrink(ctx, file, in.Width, in.Height)
	if err != nil {
		return thumbnailOut{}, err
	}
	encoded, err := encode(small, in.Format, in.Quality, t.maxThumbnail)
	if err != nil {
		return thumbnailOut{}, worker.Permanent(err)
	}
	return thumbnailOut{
		Format: in.Format, Width: small.Rect.Dx(), Height: small.Rect.Dy(),
		Bytes: len(encoded), ImageBase64: base64.StdEncoding.EncodeToString(encoded),
	}, nil
}

// read returns the image file from where the input says.
func (t *thumbnailer) read(ctx context.Context, in thumbnailIn) ([]byte, error) {
	switch {
	case (in.URL == "") == (in.ImageBase64 == ""):
		return nil, worker.Permanent(errors.New("give exactly one of url and image_base64"))
	case in.URL != "":
		return t.fetch(ctx, in.URL)
	case int64(len(in.ImageBase64)) > int64(base64.StdEncoding.EncodedLen(int(t.maxImage))):
		return nil, worker.Permanent(fmt.Errorf("image_base64: has more than %d bytes", t.maxImage))
	}
	file, err := base64.StdEncoding.DecodeString(in.ImageBase64)
	if err != nil {
		return nil, worker.Permanent(fmt.Errorf("image_base64: %w", err))
	}
	return file, nil
}

// fetch gets the image by the same rules as http_request.
func (t *thumbnailer) fetch(ctx context.Context, text string) ([]byte, error) {
	u, err := t.allow.ParseURL(text)
	if err != nil {
		return nil, worker.Permanent(err)
	}
	limited, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, worker.Permanent(fmt.Errorf("url: %w", err))
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept", "image/png, image/jpeg, image/gif, image/webp")
	sign(ctx, req)
	res, err := t.client.Do(req)
	if err != nil {
		return nil, callError(ctx, req, err)
	}
	defer res.Body.Close() //nolint:errcheck // only read from
	if err := statusError(req, res); err != nil {
		return nil, err
	}
	file, err := readBody(res.Body, t.maxImage)
	if err != nil {
		return nil, callError(ctx, req, err)
	}
	return file, nil
}
