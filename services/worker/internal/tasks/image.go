package tasks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	_ "image/gif" // registers itself with image.Decode
	"image/jpeg"
	"image/png"
	"io"

	"golang.org/x/image/draw"
	"golang.org/x/image/math/f64"
	_ "golang.org/x/image/webp" // registers itself with image.Decode

	"github.com/lovage-mq/lovage/pkg/worker"
)

const (
	// maxScratch bounds the memory that scaling takes beside the images: a
	// million points of 32 bytes.
	maxScratch = 1 << 20
	// bandRows is how many rows are scaled between two looks at the context.
	bandRows = 32
)

// measure reads the size of an image without decoding it.
func measure(file []byte, maxPixels int64) (image.Point, error) {
	config, format, err := image.DecodeConfig(bytes.NewReader(file))
	switch {
	case errors.Is(err, image.ErrFormat):
		return image.Point{}, errors.New("image: is neither PNG, JPEG, GIF nor WebP")
	case err != nil:
		return image.Point{}, fmt.Errorf("image: broken %s: %w", format, err)
	case config.Width < 1 || config.Height < 1:
		return image.Point{}, errors.New("image: is empty")
	case int64(config.Width) > maxPixels/int64(config.Height):
		return image.Point{}, fmt.Errorf("image: %d × %d is more than %d pixels", config.Width, config.Height, maxPixels)
	}
	return image.Pt(config.Width, config.Height), nil
}

// shrink decodes an image and scales it to fit into the box; a small one keeps
// its size. Its error is permanent, unless it is that of ctx.
func shrink(ctx context.Context, file []byte, width, height int) (*image.RGBA, error) {
	source, format, err := image.Decode(interruptible(ctx, bytes.NewReader(file)))
	if ctx.Err() != nil {
		return nil, fmt.Errorf("decode image: %w", ctx.Err())
	}
	if err != nil {
		return nil, worker.Permanent(fmt.Errorf("image: broken %s: %w", format, err))
	}
	return scale(ctx, source, fit(source.Bounds().Size(), width, height))
}

// fit returns the largest size with the proportions of source that is neither
// larger than the box nor than the source.
func fit(source image.Point, width, height int) image.Point {
	if source.X <= width && source.Y <= height {
		return source
	}
	// Compare the proportions as products, which are exact.
	if source.X*height > source.Y*width {
		return image.Pt(width, max(1, (source.Y*width+source.X/2)/source.X))
	}
	return image.Pt(max(1, (source.X*height+source.Y/2)/source.Y), height)
}

// scale draws the image in a new size. The kernel's Scale is the quickest, but
// holds a row of the target in floats for each row of the source: a gigabyte
// for some images within our limits. Those are drawn band by band, without.
func scale(ctx context.Context, source image.Image, size image.Point) (*image.RGBA, error) {
	from := source.Bounds()
	target := image.NewRGBA(image.Rectangle{Max: size})
	if size.X*from.Dy() <= maxScratch {
		draw.CatmullRom.Scale(target, target.Rect, source, from, draw.Src, nil)
		return target, nil
	}
	sx, sy := float64(size.X)/float64(from.Dx()), float64(size.Y)/float64(from.Dy())
	matrix := f64.Aff3{sx, 0, -sx * float64(from.Min.X), 0, sy, -sy * float64(from.Min.Y)}
	for y := 0; y < size.Y; y += bandRows {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("scale image: %w", ctx.Err())
		}
		band, _ := target.SubImage(image.Rect(0, y, size.X, min(y+bandRows, size.Y))).(*image.RGBA)
		draw.CatmullRom.Transform(band, matrix, source, from, draw.Src, nil)
	}
	return target, nil
}

// encode writes the image. JPEG has no transparency: white shows through.
func encode(img *image.RGBA, format string, quality int, limit int64) ([]byte, error) {
	out := &limitedBuffer{left: limit}
	var err error
	if format == "jpeg" {
		flat := image.NewRGBA(img.Rect)
		draw.Draw(flat, flat.Rect, image.NewUniform(color.White), image.Point{}, draw.Src)
		draw.Draw(flat, flat.Rect, img, img.Rect.Min, draw.Over)
		err = jpeg.Encode(out, flat, &jpeg.Options{Quality: quality})
	} else {
		err = png.Encode(out, img)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", format, err)
	}
	return out.Bytes(), nil
}

// limitedBuffer refuses to grow beyond its limit.
type limitedBuffer struct {
	bytes.Buffer
	left int64
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, errors.New("the thumbnail is too large a file: ask for a smaller one, or for jpeg")
	}
	return b.Buffer.Write(p)
}

// interruptible ends a decoder by its input when the context ends.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
